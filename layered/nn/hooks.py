"""Walking through a model and watching it run: its modules, hooks that store outputs, the sizes of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from layered.foundation import BadValue, map_tree, seeded
from layered.nn.layers import ParameterModule


def has_children(m: nn.Module) -> bool:
    """Whether a module contains others.

    Args:
        m: The module.
    """
    return any(True for _ in m.children())


def children_and_parameters(m: nn.Module) -> list[nn.Module]:
    """The children of a module, then its own parameters, each as a `ParameterModule`.

    Args:
        m: The module.
    """
    return [*m.children(), *(ParameterModule(p) for p in m.parameters(recurse=False))]


def flatten_model(m: nn.Module) -> list[nn.Module]:
    """The modules without children, first to last; parameters of modules with children follow as `ParameterModule`.

    Args:
        m: The model.

    Examples:
        >>> [type(layer).__name__ for layer in flatten_model(nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Tanh()))]
        ['Linear', 'ReLU', 'Tanh']
    """
    return [leaf for part in children_and_parameters(m) for leaf in flatten_model(part)] if has_children(m) else [m]


def in_channels(m: nn.Module) -> int:
    """Input channels of the first 2d convolution.

    Args:
        m: The model.

    Raises:
        BadValue: If it has no 2d convolution.
    """
    for layer in flatten_model(m):
        if isinstance(layer, nn.Conv2d):
            return layer.in_channels
    raise BadValue(f"{type(m).__name__} has no 2d convolution that gives its number of input channels")


def has_params(m: nn.Module) -> bool:
    """Whether a module, or one inside it, has parameters.

    Args:
        m: The module.
    """
    return any(True for _ in m.parameters())


def total_params(m: nn.Module) -> tuple[int, bool]:
    """The number of values in all parameters, and whether the first parameter is trained.

    Args:
        m: The module.
    """
    params = list(m.parameters())
    return sum(p.numel() for p in params), bool(params) and params[0].requires_grad


def requires_grad(m: nn.Module) -> bool:
    """Whether the first parameter is trained; False without parameters.

    Args:
        m: The module.
    """
    return any(p.requires_grad for p in list(m.parameters())[:1])


HookFunc = Callable[[nn.Module, Any, Any], Any]
T = TypeVar("T")


class Hook:
    """Calls a function after a module has run, and keeps what it returns in `stored`.

    As a context manager it removes itself at the end.

    Args:
        m: The module.
        hook_func: Called as `hook_func(module, input, output)`.
        is_forward: False: call after the backward pass, with the gradients of input and output as tuples.
        detach: Pass tensors without their history.
        cpu: Pass tensors copied to the CPU.
    """

    def __init__(
        self, m: nn.Module, hook_func: HookFunc, is_forward: bool = True, detach: bool = True, cpu: bool = False
    ) -> None:
        self.hook_func, self.detach, self.cpu = hook_func, detach, cpu
        self.stored: Any = None
        self.removed = False
        register = m.register_forward_hook if is_forward else m.register_full_backward_hook
        self.hook = register(self.hook_fn)

    def hook_fn(self, module: nn.Module, input: object, output: object) -> None:
        """Called by torch.

        Args:
            module: The module.
            input: Its positional inputs, or their gradients.
            output: Its output, or the gradients of it.
        """
        self.stored = self.hook_func(module, map_tree(self._prepared, input), map_tree(self._prepared, output))

    def _prepared(self, x: object) -> object:
        if not isinstance(x, Tensor):
            return x
        x = x.detach() if self.detach else x
        return x.cpu() if self.cpu else x

    def remove(self) -> None:
        """Remove the hook from the module; `stored` stays."""
        self.hook.remove()
        self.removed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


class Hooks:
    """A `Hook` on each of several modules, in their order.

    Args:
        ms: The modules.
        hook_func: Called as `hook_func(module, input, output)`.
        is_forward: False: call after the backward pass, with the gradients of input and output as tuples.
        detach: Pass tensors without their history.
        cpu: Pass tensors copied to the CPU.
    """

    def __init__(
        self,
        ms: Iterable[nn.Module],
        hook_func: HookFunc,
        is_forward: bool = True,
        detach: bool = True,
        cpu: bool = False,
    ) -> None:
        self.hooks: list[Hook] = []
        try:
            for m in ms:
                self.hooks.append(Hook(m, hook_func, is_forward, detach, cpu))
        except BaseException:
            self.remove()
            raise

    @property
    def stored(self) -> list[Any]:
        """What each hook stored last."""
        return [hook.stored for hook in self.hooks]

    def remove(self) -> None:
        """Remove all hooks."""
        for hook in self.hooks:
            hook.remove()

    def __getitem__(self, idx: int) -> Hook:
        return self.hooks[idx]

    def __len__(self) -> int:
        return len(self.hooks)

    def __iter__(self) -> Iterator[Hook]:
        return iter(self.hooks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def _the_output(module: nn.Module, input: object, output: object) -> object:
    return output


def hook_output(module: nn.Module, detach: bool = True, cpu: bool = False, grad: bool = False) -> Hook:
    """A hook that stores the output of a module.

    Args:
        module: The module.
        detach: Store tensors without their history.
        cpu: Store tensors on the CPU.
        grad: Store the gradients of the outputs instead, as a tuple.

    Examples:
        >>> layer = nn.Linear(2, 3)
        >>> with hook_output(layer) as hook:
        ...     y = nn.Sequential(layer, nn.ReLU())(torch.ones(1, 2))
        >>> hook.stored.shape
        torch.Size([1, 3])
    """
    return Hook(module, _the_output, is_forward=not grad, detach=detach, cpu=cpu)


def hook_outputs(modules: Iterable[nn.Module], detach: bool = True, cpu: bool = False, grad: bool = False) -> Hooks:
    """`hook_output` of several modules.

    Args:
        modules: The modules.
        detach: Store tensors without their history.
        cpu: Store tensors on the CPU.
        grad: Store the gradients of the outputs instead, as tuples.
    """
    return Hooks(modules, _the_output, is_forward=not grad, detach=detach, cpu=cpu)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Run a model in evaluation mode without gradients; restores its modes and buffers, and random generators.

    Args:
        model: The model.
    """
    # batch norm updates its running statistics in place, even under no_grad, if a module sets itself to train
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module, _ in modes
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        model.eval()
        with torch.no_grad(), seeded(0):
            yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for module, name, buffer, before in buffers:
                module._buffers[name] = buffer.copy_(before)


def dummy_eval(m: nn.Module, size: tuple[int, int] = (64, 64)) -> Any:
    """The output of a model for one black image; the model is left as it was.

    Args:
        m: The model.
        size: (height, width) of the image.
    """
    like = next(m.parameters())
    with undisturbed(m):
        return m(torch.zeros(1, in_channels(m), *size, dtype=like.dtype, device=like.device))


def model_sizes(m: nn.Module, size: tuple[int, int] = (64, 64)) -> list[torch.Size]:
    """The output shape of each child of a model, for one black image.

    Args:
        m: The model.
        size: (height, width) of the image.

    Examples:
        >>> model_sizes(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU()), (9, 9))
        [torch.Size([1, 8, 4, 4]), torch.Size([1, 8, 4, 4])]
    """
    with hook_outputs(m.children()) as hooks:
        dummy_eval(m, size)
        return [output.shape for output in hooks.stored]


def num_features_model(m: nn.Module) -> int:
    """Output channels of a body, found by running it on ever larger images, up to 2048 pixels.

    Args:
        m: The body.

    Raises:
        BadValue: If it runs on none of them.
    """
    in_channels(m)  # raises if the model does not take images at all
    failure: Exception | None = None
    for size in (32, 64, 128, 256, 512, 1024, 2048):
        try:
            return int(dummy_eval(m, (size, size)).shape[1])
        except (RuntimeError, ValueError, AssertionError) as error:
            failure = error
    raise BadValue(
        f"{type(m).__name__} cannot be run to find its number of features",
        got=f"{type(failure).__name__}: {failure}",
        expected="a body that accepts a batch of images",
    ) from failure

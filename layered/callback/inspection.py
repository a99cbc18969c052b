"""Watching a model learn: the outputs of its layers and the norms of its gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from layered.foundation import BadValue, CannotTrain, L, full_tensor, lazy, tensors_of
from layered.loop import Callback, Kinds
from layered.nn import Hooks, flatten_model, has_params

plt: Any = lazy("matplotlib.pyplot")

SETTLE_EVERY = 1024  # batches whose rows are kept apart before they are joined into one tensor


class HookCallback(Callback):
    """Registers hooks on layers during a fit: override `hook(module, input, output)`; `self.hooks.stored` has its results.

    Args:
        modules: The layers; by default all leaves of the model that have parameters.
        every: Hook only every so many training batches; None hooks every batch.
        remove_end: Remove the hooks after the fit.
        is_forward: Hook the forward pass; False hooks the backward pass, and passes gradients.
        detach: Detach what is passed to `hook`.
        cpu: Move what is passed to `hook` to main memory.
        include_paramless: Hook leaves without parameters too.
        hook: Called instead of the method.

    Raises:
        BadValue: `every` is below 1.

    Examples:
        >>> class Shapes(HookCallback):
        ...     def hook(self, module, input, output): return tuple(output.shape)
        >>> Shapes().name
        'shapes'
    """

    order = -20
    transient: ClassVar[tuple[str, ...]] = ("hooks",)
    observes = True
    state_kinds: ClassVar[Kinds] = ()
    hooks: Hooks | None = None

    def __init__(
        self,
        modules: Sequence[nn.Module] | None = None,
        every: int | None = None,
        remove_end: bool = True,
        is_forward: bool = True,
        detach: bool = True,
        cpu: bool = True,
        include_paramless: bool = False,
        hook: Callable[[nn.Module, Any, Any], Any] | None = None,
    ) -> None:
        super().__init__()
        if every is not None and every < 1:
            raise BadValue("every must be a number of batches", got=every, expected="a whole number from 1, or None")
        self.modules, self.every, self.remove_end = modules, every, remove_end
        self.is_forward, self.detach, self.cpu, self.include_paramless = is_forward, detach, cpu, include_paramless
        if hook is not None:
            self.hook = hook  # type: ignore[method-assign,assignment]

    def hook(self, module: nn.Module, input: Any, output: Any) -> Any:
        """What to keep of one call of one layer.

        Args:
            module: The layer.
            input: Its inputs; backward, the gradients of the inputs.
            output: Its outputs; backward, the gradients of the outputs.
        """
        raise NotImplementedError(f"{type(self).__name__} has no hook(module, input, output)")

    @property
    def due(self) -> bool:
        """Whether to look at this batch."""
        return bool(self.training) and (self.every is None or self.train_iter % self.every == 0)

    def before_fit(self) -> None:
        if self.every is None:
            self._register()

    def before_batch(self) -> None:
        if self.every is not None and self.due:
            self._register()

    def after_batch(self) -> None:
        if self.every is not None:
            self._remove()

    def after_fit(self) -> None:
        if self.remove_end:
            self._remove()

    def on_error(self) -> None:
        self._remove()

    def _register(self) -> None:
        self._remove()
        leaves = (m for m in flatten_model(self.model) if self.include_paramless or has_params(m))
        modules = list(leaves if self.modules is None else self.modules)
        self.hooks = Hooks(modules, self.hook, self.is_forward, self.detach, self.cpu)

    def _remove(self) -> None:
        if self.hooks is not None:
            self.hooks.remove()


class BatchRows:
    """A tensor for each batch, all of one shape, stored in few tensors, so that a checkpoint after many batches stays cheap."""

    def __init__(self) -> None:
        self._whole = torch.empty(0)
        self._new: list[Tensor] = []  # not yet in `_whole`

    def append(self, row: Tensor) -> None:
        self._new.append(row)
        if len(self._new) >= SETTLE_EVERY:
            self._settle()

    @property
    def whole(self) -> Tensor:
        """[batch, …]"""
        self._settle()
        return self._whole

    def _settle(self) -> None:
        if self._new:
            new = torch.stack(self._new)
            self._whole, self._new = torch.cat([self._whole.to(new), new]) if len(self._whole) else new, []

    def __len__(self) -> int:
        return len(self._whole) + len(self._new)

    def state_dict(self) -> dict[str, Tensor]:
        return {"rows": self.whole}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._whole, self._new = state["rows"], []


class ActivationStats(HookCallback):
    """Mean, standard deviation and share of near-zero outputs of each layer in each training batch.

    Args:
        with_hist: Keep a histogram too: 40 bins from 0 to 10.
        cpu: Move outputs to main memory before the statistics are computed.
        hook_args: The other arguments of `HookCallback`.

    Examples:
        >>> ActivationStats(with_hist=True).stats
        (#0) []
    """

    state_kinds = (("_kept", dict[str, Tensor]),)

    def __init__(self, with_hist: bool = False, *, cpu: bool = False, **hook_args: Any) -> None:
        super().__init__(cpu=cpu, **hook_args)
        self.with_hist = with_hist
        self._kept = BatchRows()  # [batch, layer, 3 + bins]: mean, std, near zero, histogram

    def before_fit(self) -> None:
        if self.learn.fitting:
            self._kept = BatchRows()
        super().before_fit()

    def hook(self, module: nn.Module, input: Any, output: Any) -> Tensor | None:
        outputs = list(tensors_of(output))
        if not outputs or not self.training:
            return None
        x = outputs[0].detach().float()
        stats = torch.stack([x.mean(), x.std(), (x <= 0.05).float().mean()])
        return torch.cat([stats, torch.histc(x, 40, 0, 10)]) if self.with_hist else stats

    def after_batch(self) -> None:
        if self.due and self.hooks is not None:
            nothing = torch.full((43 if self.with_hist else 3,), torch.nan)
            device = next((x.device for x in self.hooks.stored if x is not None), None)
            self._kept.append(torch.stack([(nothing if x is None else x).to(device) for x in self.hooks.stored]))
        super().after_batch()

    @property
    def stats(self) -> L:
        """For each batch, for each layer: a dict of "mean", "std", "near_zero" (share of outputs up to 0.05), "hist"."""
        keys = ("mean", "std", "near_zero")
        rows = self._kept.whole.cpu()
        return L(L({**dict(zip(keys, x, strict=False)), **self._hist_of(x)} for x in batch) for batch in rows)

    def _hist_of(self, x: Tensor) -> dict[str, Tensor]:
        return {"hist": x[3:]} if self.with_hist else {}

    def layer_stats(self, idx: int) -> L:
        """Means, standard deviations and shares of near-zero outputs of a layer, each a list over batches.

        Args:
            idx: Index of the layer.
        """
        return L(self._of(idx)[:3].tolist())

    def hist(self, idx: int) -> Tensor:
        """The histograms of a layer, as log(1 + count): [bin, batch], with the bin of the largest outputs first.

        Args:
            idx: Index of the layer.

        Raises:
            CannotTrain: No histograms were kept.
        """
        if not self.with_hist:
            raise CannotTrain("no histograms were kept", fix="ActivationStats(with_hist=True)")
        return self._of(idx)[3:].flip(0).log1p()

    def _of(self, idx: int) -> Tensor:
        """[3 + bins, batch]"""
        if not self._kept:
            raise CannotTrain("no statistics were kept yet", fix="fit first; statistics are of training batches")
        count = self._kept.whole.shape[1]
        if not -count <= idx < count:
            raise BadValue("layer index out of range", got=idx, expected=f"one of {count} layers")
        return self._kept.whole[:, idx].T.cpu()

    def plot_layer_stats(self, idx: int) -> None:
        """Plot `layer_stats(idx)` side by side.

        Args:
            idx: Index of the layer.
        """
        _, axes = plt.subplots(1, 3, figsize=(12, 3))
        titles = ("mean", "standard deviation", "share near zero")
        for ax, values, title in zip(axes, self.layer_stats(idx), titles, strict=True):
            ax.plot(values)
            ax.set_title(title)
            ax.set_xlabel("batch")

    def color_dim(self, idx: int, figsize: tuple[float, float] = (10, 5), ax: Any = None) -> None:
        """Plot the histograms of a layer as colours, a column for each batch.

        Args:
            idx: Index of the layer.
            figsize: Size of a new figure, in inches.
            ax: Axes to draw on, instead of a new figure.
        """
        ax = plt.subplots(figsize=figsize)[1] if ax is None else ax
        ax.imshow(self.hist(idx), aspect="auto")
        ax.set_axis_off()


class GradientStats(Callback):
    """The norm of each parameter's gradient, and its ratio to the parameter's norm, before each optimizer step.

    `norms[i][name]` and `ratios[i][name]` are floats, of the i-th batch looked at.

    Args:
        every: Look only at every so many training batches.

    Raises:
        BadValue: `every` is below 1.

    Examples:
        >>> GradientStats().norms
        []
    """

    order = -20
    observes = True
    state_kinds = (("_names", list[str]), ("_norms", dict[str, Tensor]))

    def __init__(self, every: int = 1) -> None:
        super().__init__()
        if every < 1:
            raise BadValue("every must be a number of batches", got=every, expected="a whole number from 1")
        self.every = every
        self._names: list[str] = []
        # [batch, 2, parameter]: norms of gradients and of parameters; -1 stands for a missing gradient
        self._norms = BatchRows()

    def before_fit(self) -> None:
        if self.learn.fitting:
            self._names, self._norms = [name for name, _ in self.model.named_parameters()], BatchRows()

    def before_step(self) -> None:
        if self.train_iter % self.every:
            return
        named = {name: p for name, p in self.model.named_parameters() if p.grad is not None}
        if named:
            grads = [*map(full_tensor, torch._foreach_norm([p.grad for p in named.values() if p.grad is not None]))]
            params = [*map(full_tensor, torch._foreach_norm([p.detach() for p in named.values()]))]
            pairs = dict(zip(named, zip(grads, params, strict=True), strict=True))
            none = torch.full_like(grads[0], -1.0)
            rows = zip(*(pairs.get(name, (none, none)) for name in self._names), strict=True)
            self._norms.append(torch.stack([torch.stack(row) for row in rows]))

    @property
    def norms(self) -> list[dict[str, float]]:
        """The norm of each gradient, by the name of its parameter, for each batch."""
        return self._by_name(lambda grads, params: grads)

    @property
    def ratios(self) -> list[dict[str, float]]:
        """The norm of each gradient divided by that of its parameter, for each batch; 0 for a parameter that is 0."""
        return self._by_name(lambda grads, params: (grads / params).nan_to_num(0.0, 0.0, 0.0))

    def _by_name(self, number: Callable[[Tensor, Tensor], Tensor]) -> list[dict[str, float]]:
        """For each batch, a number for each parameter that had a gradient, from the norms of both, [batch, parameter]."""
        if not len(self._norms):
            return []
        grads, params = self._norms.whole.cpu().unbind(1)
        rows = zip(number(grads, params).tolist(), (grads < 0).tolist(), strict=True)
        return [{n: x for n, x, out in zip(self._names, *row, strict=True) if not out} for row in rows]

    def plot(self, what: str = "norms", top: int = 10, ax: Any = None) -> None:
        """Plot `norms` or `ratios` over batches.

        Args:
            what: "norms" or "ratios".
            top: Plot only the parameters with the largest values, so many.
            ax: Axes to draw on, instead of a new figure.

        Raises:
            BadValue: `what` is neither.
            CannotTrain: No statistics were kept yet.
        """
        if what not in ("norms", "ratios"):
            raise BadValue("unknown statistic to plot", got=what, expected="'norms' or 'ratios'")
        rows = self.norms if what == "norms" else self.ratios
        if not rows:
            raise CannotTrain("no statistics were kept yet", fix="fit first")
        ax = plt.subplots(figsize=(8, 4))[1] if ax is None else ax
        largest = sorted({n for row in rows for n in row}, key=lambda n: -max(row.get(n, 0.0) for row in rows))[:top]
        for name in largest:
            ax.plot([row.get(name, float("nan")) for row in rows], label=name)
        ax.set_yscale("log")
        ax.set_xlabel("batch")
        ax.set_ylabel("gradient norm" if what == "norms" else "gradient norm / parameter norm")
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")

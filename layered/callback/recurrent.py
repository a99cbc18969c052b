"""Recurrent models: state carried from batch to batch, regularisation of activations, and truncated backpropagation."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from torch import Tensor, nn

from layered.foundation import BadFile, CannotTrain, OutOfRange, assigned, map_tree, tensors_of, to_detach
from layered.loop import Callback, CancelBatchException, Numbers, Resettable, bad_state, fits, unwrapped


class _CarriedState(Callback):
    """Base of callbacks for models that carry state from batch to batch.

    A checkpoint holds this state, and the numbers beside it in the same modules (a module may note how many rows it is for).
    """

    state_kinds = ()

    def carried(self, module: nn.Module) -> list[str]:
        """The attributes of a module that carry state.

        Args:
            module: A module of the model.
        """
        raise NotImplementedError(f"{type(self).__name__} needs carried(self, module)")

    def state_dict(self) -> dict[str, Any]:
        carried = self._all_carried()
        return super().state_dict() | ({"carried": carried} if carried else {})

    def _all_carried(self) -> dict[str, Any]:
        carried: dict[str, Any] = {}
        for path, module in unwrapped(self.learn.model).named_modules():
            if names := self.carried(module):
                numbers = [
                    name
                    for name, value in vars(module).items()
                    if isinstance(value, int) and name not in _OF_EVERY_MODULE
                ]
                carried |= {f"{path}.{name}": getattr(module, name) for name in (*names, *numbers)}
        return carried

    def check_state(self, state: Mapping[str, Any]) -> None:
        self.check_attributes({name: value for name, value in state.items() if name != "carried"})
        if not fits(state.get("carried", {}), dict[str, Numbers]):
            raise bad_state(self, "carried")
        modules = dict(unwrapped(self.learn.model).named_modules())
        for place in state.get("carried", {}):
            path, _, name = place.rpartition(".")
            module = modules.get(path)
            is_carried = isinstance(module, nn.Module) and (name in vars(module) or name in assigned(type(module)))
            if not is_carried or name in _OF_EVERY_MODULE or callable(getattr(module, name, None)):
                raise BadFile("the checkpoint has a state that no module carries from batch to batch", got=place)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.check_state(state)
        super().load_state_dict({name: value for name, value in state.items() if name != "carried"})
        for place, value in state.get("carried", {}).items():
            path, _, name = place.rpartition(".")
            setattr(unwrapped(self.learn.model).get_submodule(path), name, value)


class ModelResetter(_CarriedState):
    """Calls `model.reset()` before each pass and after the fit, so that no state is carried from one to the other.

    A checkpoint holds the tensors that modules keep as attributes, apart from parameters and buffers.
    """

    state_kinds = ()

    def carried(self, module: nn.Module) -> list[str]:
        return [name for name, value in vars(module).items() if name not in _OF_EVERY_MODULE and _is_carried(value)]

    def __init__(self) -> None:
        self.aside: dict[str, Any] = {}  # the state of a training pass, while validation is in its middle

    def before_train(self) -> None:
        self._reset()

    def before_validate(self) -> None:
        if self.learn.nested:
            self.aside = map_tree(lambda x: x.clone() if isinstance(x, Tensor) else x, self._all_carried())
        self._reset()

    def after_validate(self) -> None:
        aside, self.aside = self.aside, {}
        if aside:
            self.load_state_dict({"carried": aside})

    def after_fit(self) -> None:
        self._reset()

    def _reset(self) -> None:
        model: Any = unwrapped(self.learn.model)
        model.reset()


class RNNCallback(Callback):
    """For models that return (output, raw outputs, outputs after dropout): the loss gets the output, the rest is kept.

    Attributes:
        raw_out: The last layer's outputs before dropout in the current batch, [batch, time, channel].
        out: The same after dropout.
    """

    transient = ("raw_out", "out")
    state_kinds = ()

    def __init__(self) -> None:
        self.raw_out: Any = None
        self.out: Any = None

    def after_pred(self) -> None:
        learn = self.learn
        learn.pred, raw, out = learn.pred
        self.raw_out, self.out = _last(raw), _last(out)

    def after_batch(self) -> None:
        self.raw_out = self.out = None


class RNNRegularizer(Callback):
    """Adds activation regularisation to the loss that is differentiated, from what an `RNNCallback` keeps.

    Args:
        alpha: Weight of the mean square of the outputs after dropout.
        beta: Weight of the mean square of the change of the raw outputs from one time step to the next.

    Raises:
        OutOfRange: A weight is negative.
        CannotTrain: As the fit begins: there is no RNNCallback.

    Source: Merity et al. 2017, arXiv:1708.02182
    """

    order = 1
    run_valid = False
    state_kinds = ()

    def __init__(self, alpha: float = 0.0, beta: float = 0.0) -> None:
        for name, value in (("alpha", alpha), ("beta", beta)):
            if not value >= 0:
                raise OutOfRange(f"{name}, a weight in the loss, cannot be negative", got=value, expected="0 or more")
        self.alpha, self.beta = alpha, beta

    def before_fit(self) -> None:
        if not any(isinstance(cb, RNNCallback) for cb in self.learn.cbs):
            weights = f"alpha={self.alpha:g}, beta={self.beta:g}"
            raise CannotTrain(
                "RNNRegularizer needs an RNNCallback, which keeps the outputs of the model",
                fix=f"cbs=rnn_cbs({weights}), or a TextLearner, which has both",
            )

    def after_loss(self) -> None:
        learn = self.learn
        kept = next(cb for cb in learn.cbs if isinstance(cb, RNNCallback))
        if self.alpha:
            learn.loss_grad = learn.loss_grad + self.alpha * kept.out.float().pow(2).mean()
        if self.beta and kept.raw_out.shape[1] > 1:
            change = kept.raw_out[:, 1:] - kept.raw_out[:, :-1]
            learn.loss_grad = learn.loss_grad + self.beta * change.float().pow(2).mean()


def rnn_cbs(alpha: float = 0.0, beta: float = 0.0) -> list[Callback]:
    """The callbacks that a recurrent model needs.

    Args:
        alpha: Of `RNNRegularizer`, which is included unless both weights are 0.
        beta: Of `RNNRegularizer`.

    Examples:
        >>> rnn_cbs(), rnn_cbs(alpha=2, beta=1)
        ([ModelResetter, RNNCallback], [ModelResetter, RNNCallback, RNNRegularizer])
    """
    cbs: list[Callback] = [ModelResetter(), RNNCallback()]
    return [*cbs, RNNRegularizer(alpha, beta)] if alpha or beta else cbs


class TruncatedBPTT(_CarriedState):
    """Trains on long sequences piece by piece: one optimizer step for every `steps` time steps.

    The state is carried from piece to piece, without its gradient; a model with `reset()` is reset at the start of each batch.
    Each piece has its own prediction, loss, backward pass and step, with their events; the reported loss is the mean over all
    time steps.

    Args:
        steps: Length of a piece; the last one may be shorter.
        dim: The time axis of every input and target: [batch, time, …] by default.
        state: The attribute in which modules of the model keep their hidden state between calls.

    Raises:
        OutOfRange: `steps` is below 1.
        CannotTrain: During the fit: inputs and targets have no such axis in common, or no module has such a state.

    Source: Williams & Peng 1990, "An efficient gradient-based algorithm for on-line training of recurrent networks"
    """

    order = 10  # after the callbacks that change a batch, so that they see all of it
    run_valid = False
    transient = ("losses",)
    state_kinds = ()

    def __init__(self, steps: int, dim: int = 1, state: str = "hidden") -> None:
        if steps < 1:
            raise OutOfRange("steps must be a number of time steps", got=steps, expected="at least 1")
        self.steps, self.dim, self.state = steps, dim, state
        self.losses: list[tuple[Tensor, int]] = []

    def carried(self, module: nn.Module) -> list[str]:
        has_state = hasattr(module, self.state) and not isinstance(getattr(module, self.state), nn.Module)
        return [self.state] if has_state else []

    def before_batch(self) -> None:
        learn = self.learn
        if not any(hasattr(module, self.state) for module in learn.model.modules()):
            raise CannotTrain(
                f"no module of the model keeps a state named '{self.state}'",
                fix="name the attribute that holds it: TruncatedBPTT(steps, state=…)",
            )
        length = self._length()
        if isinstance(model := unwrapped(learn.model), Resettable):
            model.reset()
        whole, self.losses = (learn.xb, learn.yb), []
        for start in range(0, length, self.steps):
            rows = min(self.steps, length - start)
            learn.xb, learn.yb = map_tree(lambda t: t.narrow(self.dim, start, rows), whole)  # noqa: B023  # called here
            if start + rows < length:  # the loop itself trains on the last piece
                self._learn_piece()

    def _learn_piece(self) -> None:
        learn = self.learn
        with suppress(CancelBatchException):  # which ends this piece
            learn.do_batch()
        self._note()

    def _note(self) -> None:
        learn = self.learn
        self.losses.append((learn.loss, next(tensors_of(learn.xb)).shape[self.dim]))
        for module in learn.model.modules():
            if hasattr(module, self.state):
                setattr(module, self.state, to_detach(getattr(module, self.state), cpu=False))

    def after_batch(self) -> None:
        learn = self.learn
        if self.losses:
            self._note()
            total: Any = sum(loss * rows for loss, rows in self.losses)
            learn.loss = total / sum(rows for _, rows in self.losses)
            self.losses = []

    def _length(self) -> int:
        learn = self.learn
        lengths = {t.shape[self.dim] if t.ndim > self.dim else None for t in tensors_of((learn.xb, learn.yb))}
        length = lengths.pop() if len(lengths) == 1 else None
        if length is None:
            shapes = ", ".join(str(list(t.shape)) for t in tensors_of((learn.xb, learn.yb)))
            raise CannotTrain(
                f"inputs and targets do not share a time axis {self.dim}",
                got=shapes,
                fix="TruncatedBPTT(dim=…)",
            )
        return length


_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def _is_carried(value: object) -> bool:
    """Whether an attribute holds tensors, none of them trained."""
    tensors = list(tensors_of(value))
    return bool(tensors) and not any(isinstance(t, nn.Parameter) or t.requires_grad for t in tensors)


def _last(outputs: Any) -> Any:
    """The last layer's output, if there is one for each layer."""
    return outputs[-1] if isinstance(outputs, (list, tuple)) else outputs

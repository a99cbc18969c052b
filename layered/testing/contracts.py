"""What every transform and callback must do, the library's and yours: call these in the tests of your own."""

from __future__ import annotations

import copy
import os
import pickle
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.testing import assert_close

from layered.files import Scope, decode_tree, encode_tree
from layered.foundation import Tickets, Transform, drawing, key_of, leaves, plain_tree, transforms
from layered.loop import STATE_FIELDS, Callback, CancelBatchException, CancelFitException, Checkpoint, pack_callback
from layered.testing.tiny import synth_learner
from layered.training import Learner


def check_transform(tfm: Transform, sample: object, *, reversible: bool = False, split_idx: int | None = 0) -> None:
    """Raise AssertionError unless a transform keeps the contract of transforms.

    - the same ticket gives the same result, from the transform, a copy and a pickled copy
    - the input is not changed, and objects of other types pass through
    - decoding undoes encoding and restores the type (`reversible`)
    - a registered one can be rebuilt from its description as data

    Args:
        tfm: The transform.
        sample: Something that it applies to.
        reversible: Also check that decoding undoes encoding exactly.
        split_idx: The split to apply it for.
    """
    before = copy.deepcopy(sample)
    wanted = _under_ticket(tfm, sample, split_idx)
    _assert_same(sample, before, f"{tfm} changed its input")
    for twin in (tfm, copy.copy(tfm), pickle.loads(pickle.dumps(tfm))):
        _assert_same(_under_ticket(twin, sample, split_idx), wanted, f"{tfm} depends on more than its ticket")
    unrelated = object()
    if tfm.enc is None and type(tfm).kernel("encodes", object) is None:
        assert tfm(unrelated, split_idx=split_idx) is unrelated, f"{tfm} changes objects of other types"
    if reversible:
        decoded = tfm.decode(wanted, split_idx=split_idx)
        assert type(decoded) is type(sample), f"{tfm} decodes to {type(decoded).__name__}"
        _assert_same(decoded, sample, f"{tfm} does not undo itself")
    if transforms.name_of(type(tfm)) is not None:
        tensors: dict[str, Tensor] = {}
        rebuilt = decode_tree(encode_tree(tfm, tensors, "tfm", Scope.DATA), tensors, Scope.DATA)
        assert type(rebuilt) is type(tfm)
        _assert_same(_under_ticket(rebuilt, sample, split_idx), wanted, f"{tfm} cannot be rebuilt from its description")


def _under_ticket(tfm: Transform, sample: object, split_idx: int | None) -> Any:
    tensors = [o for o in leaves(sample) if isinstance(o, Tensor) and o.ndim]
    rows = torch.arange(len(tensors[0]) if tensors else 1)
    with drawing(Tickets(rows + 1, key_of("contract"))):
        return tfm(copy.deepcopy(sample), split_idx=split_idx)


def _assert_same(found: object, wanted: object, message: str) -> None:
    for a, b in zip(leaves(found), leaves(wanted), strict=True):
        assert type(a) is type(b), f"{message}: {type(a).__name__} instead of {type(b).__name__}"
        if isinstance(a, Tensor):
            assert_close(plain_tree(a), plain_tree(b), msg=message)
        elif hasattr(a, "tobytes"):
            assert a.tobytes() == b.tobytes(), message
        elif type(a) is not object:
            assert a == b, message


def check_callback(make: Callable[[], Callback], learner: Callable[..., Learner] = synth_learner) -> None:
    """Raise AssertionError unless a callback keeps the contract of callbacks.

    It must train twice and survive cancelled and failing fits. After those, and when it is removed, nothing may be left
    behind: no attribute of the learner, hook, mode, frozen weight or autocast. A pickled copy must train too, and its
    state must survive a file.

    Args:
        make: Creates the callback.
        learner: Creates the learner to train: `learner(path=folder)`.
    """
    cb = make()
    with TemporaryDirectory() as folder:
        learn = learner(path=folder)
        with learn.no_bar(), learn.no_logging():
            learn.fit(1)
            before = _around(learn)
            learn.add_cb(cb)
            learn.fit(1)
            for how in (CancelBatchException(), CancelFitException(), _Failure()):
                with suppress(_Failure):
                    learn.fit(1, cbs=_Stop(how))
                assert _around(learn) == before, f"{cb} leaves a trace after {how!r}"
            learn.fit(1)
            learn.validate()
            state = decode_tree(*pack_callback(cb, cb.name))
            learn.remove_cb(cb)
            assert _around(learn) == before, f"{cb} leaves a trace"
            learn.fit(1, cbs=pickle.loads(pickle.dumps(cb)))
            learn.fit(1)
    assert len(learn.recorder.losses) == len(learn.dls.train), f"{cb} disturbs a fit after it was removed"
    assert cb not in learn.cbs
    assert not any(value is cb for value in vars(learn).values()), f"{cb} left itself on the learner"
    other = make()
    other.load_state_dict(state)
    given_back = {name: other.state_dict()[name] for name in state}
    _assert_same(given_back, state, f"{cb} does not give its state back")


def check_callbacks_together(
    makers: Iterable[Callable[[], Callback]], learner: Callable[..., Learner] = synth_learner
) -> None:
    """Raise AssertionError unless a learner trains with all these callbacks at once and they leave nothing behind.

    Args:
        makers: Create the callbacks.
        learner: Creates the learner to train: `learner(path=folder)`.
    """
    with TemporaryDirectory() as folder:
        learn = learner(path=folder)
        with learn.no_bar(), learn.no_logging():
            before = _around(learn)
            cbs = [make() for make in makers]
            learn.fit(1, cbs=cbs)
            assert _around(learn) == before, f"{cbs} leave a trace together"


def check_resuming(make: Callable[[], Callback], learner: Callable[..., Learner] = synth_learner) -> None:
    """Raise AssertionError unless a fit with a callback resumes exactly.

    A fit of two epochs is interrupted in the middle of either epoch, and by a SIGTERM during validation, and is resumed
    from its checkpoint in a new learner. Weights, losses and metrics must equal those of the uninterrupted fit bit for
    bit.

    Args:
        make: Creates the callback.
        learner: Creates the learner to train: `learner(path=folder, cbs=callback)`.
    """
    with TemporaryDirectory() as folder:
        whole = _trained(make, learner, folder)
    ends = {f"batch {n}": _Die(n) for n in (1, len(whole.dls.train) + 1)}
    for where, end in {**ends, "a SIGTERM in validation": _Terminate()}.items():
        with TemporaryDirectory() as folder:
            with suppress(_Failure, SystemExit):
                _trained(make, learner, folder, end)
            resumed = _trained(make, learner, folder, resume="auto")
        weights = (resumed.model.state_dict(), whole.model.state_dict())
        assert_close(*weights, rtol=0, atol=0, msg=f"{make()} does not resume after {where}")
        assert resumed.recorder.losses == whole.recorder.losses, f"{make()} resumes with other losses after {where}"
        assert resumed.recorder.values == whole.recorder.values, f"{make()} resumes with other metrics after {where}"


def _trained(
    make: Callable[[], Callback],
    learner: Callable[..., Learner],
    folder: str,
    end: Callback | None = None,
    resume: str | None = None,
) -> Learner:
    learn = learner(path=folder, cbs=make()).add_cbs(end)
    with learn.no_bar(), learn.no_logging():
        learn.fit(2, checkpoint=Checkpoint(Path(folder) / "checkpoints", "1 batch"), resume=resume)
    return learn


def _around(learn: Learner) -> dict[str, Any]:
    """What a callback must leave unchanged."""
    modules, parameters = list(learn.model.modules()), list(learn.model.parameters())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    own = {name for name, value in vars(learn).items() if not isinstance(value, Callback)}
    return {
        "attributes of the learner": own - STATE_FIELDS,
        "loss function": learn.loss_func,
        "modules": [(type(m), [*vars(m)]) for m in modules],
        "hooks": sum(len(getattr(m, kind)) for m in modules for kind in hooks),
        "weights that learn": [p.requires_grad for p in parameters],
        "layout": [p.stride() for p in parameters],
        "gradients": [p.grad for p in parameters],
        "autocast": torch.is_autocast_enabled("cpu"),
        "frozen groups": 0 if learn.opt is None else learn.opt.frozen_idx,
    }


class _Failure(Exception):
    """A failure of other code."""


class _Stop(Callback):
    """Raises an exception in the second training batch of a fit."""

    def __init__(self, how: Exception) -> None:
        self.how = how

    def after_loss(self) -> None:
        if self.learn.training and self.learn.iter == 1:
            raise self.how


class _Terminate(Callback):
    """Sends this process a SIGTERM during the validation pass of the first epoch."""

    def after_loss(self) -> None:
        if not self.learn.training and self.learn.epoch == 0:
            os.kill(os.getpid(), signal.SIGTERM)


class _Die(Callback):
    """Fails after a number of training batches; its order is after the checkpoint of the batch."""

    order = 2000

    def __init__(self, after: int) -> None:
        self.after = after

    def after_batch(self) -> None:
        if self.learn.training and self.learn.train_iter == self.after:
            raise _Failure

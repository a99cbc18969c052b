"""What every transform and callback keeps to, ours and yours: call these in your own tests the day you add one."""

from __future__ import annotations

import copy
import pickle
from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.testing import assert_close

from layered.foundation.registry import transforms
from layered.foundation.seeds import Tickets, drawing, key_of
from layered.foundation.tensors import plain_tree
from layered.foundation.transform import Transform
from layered.foundation.tree import leaves
from layered.loop.callback import Callback
from layered.loop.checkpoint import pack_callback
from layered.loop.events import CancelFitException
from layered.loop.packing import unpack
from layered.testing.tiny import synth_learner
from layered.training.pipelines import describe, rebuild


def check_transform(tfm: Transform, sample: Any, *, reversible: bool = False, split_idx: int | None = 0) -> None:
    """Raise AssertionError unless `tfm` keeps the contract of transforms.

    - the same ticket gives the same result, from the transform, a copy and a pickled twin
    - the input is not changed, and what does not concern it passes through
    - decoding undoes encoding and gives the type back (`reversible`)
    - a registered one comes back from its description as data
    """
    before = copy.deepcopy(sample)
    wanted = _under_ticket(tfm, sample, split_idx)
    _assert_same(sample, before, f"{tfm} changed its input")
    for twin in (tfm, copy.copy(tfm), pickle.loads(pickle.dumps(tfm))):
        _assert_same(_under_ticket(twin, sample, split_idx), wanted, f"{tfm} does not depend on its ticket alone")
    stranger = object()
    if tfm.enc is None and type(tfm)._kernel("encodes", object) is None:
        assert tfm(stranger, split_idx=split_idx) is stranger, f"{tfm} touches what it does not know"
    if reversible:
        again = tfm.decode(wanted, split_idx=split_idx)
        assert type(again) is type(sample), f"{tfm} decodes to {type(again).__name__}"
        _assert_same(again, sample, f"{tfm} does not undo itself")
    if transforms.name_of(type(tfm)) is not None:
        tensors: dict[str, Tensor] = {}
        rebuilt = rebuild(describe(tfm, tensors, "tfm"), tensors)
        assert type(rebuilt) is type(tfm)
        _assert_same(_under_ticket(rebuilt, sample, split_idx), wanted, f"{tfm} does not come back from a file")


def _under_ticket(tfm: Transform, sample: Any, split_idx: int | None) -> Any:
    tensors = [o for o in leaves(sample) if isinstance(o, Tensor) and o.ndim]
    rows = torch.arange(len(tensors[0]) if tensors else 1)
    with drawing(Tickets(rows + 1, key_of("contract"))):
        return tfm(copy.deepcopy(sample), split_idx=split_idx)


def _assert_same(found: Any, wanted: Any, message: str) -> None:
    for a, b in zip(leaves(found), leaves(wanted), strict=True):
        assert type(a) is type(b), f"{message}: {type(a).__name__} is no {type(b).__name__}"
        if isinstance(a, Tensor):
            assert_close(plain_tree(a), plain_tree(b), msg=message)
        elif hasattr(a, "tobytes"):
            assert a.tobytes() == b.tobytes(), message
        elif type(a) is not object:
            assert a == b, message


def check_callback(make: Any) -> None:
    """Raise AssertionError unless the callback that `make()` builds keeps the contract of callbacks.

    It trains twice, survives a fit that is cancelled and one that fails, leaves nothing behind when it is removed, and its
    state can be written to a file and given back.
    """
    cb: Callback = make()
    with TemporaryDirectory() as folder:
        learn = synth_learner(path=folder)
        with learn.no_bar(), learn.no_logging():
            learn.add_cb(cb)
            learn.fit(1)
            learn.fit(1, cbs=_Stop(CancelFitException()))
            with suppress(_Failure):
                learn.fit(1, cbs=_Stop(_Failure()))
            learn.fit(1)
            tensors: dict[str, Tensor] = {}
            state = unpack(pack_callback(cb, tensors, cb.name), tensors)
            learn.remove_cb(cb)
            learn.fit(1)
    assert len(learn.recorder.losses) == len(learn.dls.train), f"{cb} disturbs a fit after it was removed"
    assert cb not in learn.cbs
    assert not any(value is cb for value in vars(learn).values()), f"{cb} left itself on the learner"
    other: Callback = make()
    other.load_state_dict(state)
    given_back = {name: other.state_dict()[name] for name in state}
    _assert_same(given_back, state, f"{cb} does not give its state back")


class _Failure(Exception):
    """Somebody else's failure."""


class _Stop(Callback):
    """Ends a fit in its second batch."""

    def __init__(self, how: Exception) -> None:
        self.how = how

    def after_loss(self) -> None:
        if self.learn.training and self.learn.iter == 1:
            raise self.how

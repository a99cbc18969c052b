from __future__ import annotations

import pytest
import torch

from layered.foundation import UnknownName
from layered.optim.update import Slab


def a_slab(*shapes):
    slab = Slab({"lr": 0.1}, 1, True)
    for shape in shapes:
        slab.add(torch.randn(shape), torch.randn(shape), {"avg": torch.randn(shape), "count": 1})
    return slab


def test_pieces_are_views_that_cover_everything_once():
    slab = a_slab((10, 7), (3,), (), (0,), (4, 2, 5))
    for piece in slab.pieces(16):
        for lists in (piece.params, piece.grads, piece["avg"]):
            for t in lists:
                t.add_(1000)
    for lists in (slab.params, slab.grads, slab["avg"]):
        assert all(((t > 900) & (t < 1100)).all() for t in lists)


def test_pieces_stay_near_the_size_and_keep_rows_together():
    pieces = list(a_slab((100, 4), *[(3,)] * 50).pieces(40))
    assert all(sum(p.numel() for p in piece.params) <= 43 for piece in pieces)
    assert all(p.shape[1:] in ((4,), ()) for piece in pieces for p in piece.params)
    assert [g.shape for piece in pieces for g in piece.grads] == [p.shape for piece in pieces for p in piece.params]


def test_pieces_pair_rows_of_tensors_with_different_strides():
    slab = a_slab((8, 6))
    slab.grads[0] = torch.randn(6, 8).t()
    whole = slab.params[0] + slab.grads[0]
    parts = [p + g for piece in slab.pieces(12) for p, g in zip(piece.params, piece.grads, strict=True)]
    assert torch.equal(torch.cat(parts), whole)


def test_a_value_for_each_parameter_is_put_into_its_state():
    slab = a_slab((2,), (3,))
    slab["size"] = [2, 3]
    assert slab["size"] == [state["size"] for state in slab.states] == [2, 3]
    with pytest.raises(ValueError, match="shorter"):
        slab["size"] = [2]


def test_a_statistic_that_nobody_keeps_is_named():
    with pytest.raises(UnknownName, match="avq"):
        a_slab((2,))["avq"]

"""Batches of texts of nearly the same length, and results in the order of the rows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from layered.foundation import BadValue
from layered.text.all import (
    DataLoaders,
    Interpretation,
    Learner,
    MSELossFlat,
    SortedDL,
    TensorText,
    pad_input,
)


def samples(lengths):
    """Texts of these lengths, which begin with their number; as targets, that number."""
    return [(TensorText([i + 2, *[2] * (n - 1)]), torch.tensor(float(i))) for i, n in enumerate(lengths)]


def loader(lengths, **settings):
    return SortedDL(samples(lengths), before_batch=pad_input, **{"bs": 4, "seed": 1, **settings})


def rows(dl):
    """The number of the item in each row of each batch."""
    return [[int(i) for i in y] for _, y in dl]


class FirstToken(nn.Module):
    """Says which item a row is; counts the rows that it is given."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return (x[:, 0] - 2.0) * self.scale


some_lengths = st.lists(st.integers(1, 40), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(lengths=some_lengths, bs=st.integers(1, 9), drop_last=st.booleans(), world=st.integers(1, 3))
def test_an_epoch_takes_each_item_once(lengths, bs, drop_last, world):
    given = {"bs": bs, "drop_last": drop_last}
    parts = [loader(lengths, shuffle=True, share=(rank, world), **given) for rank in range(world)]
    taken = [rows(dl) for dl in parts]
    assert [len(part) for part in taken] == [len(dl) for dl in parts]
    all_rows = [i for part in taken for batch in part for i in batch]
    assert len(set(all_rows)) == len(all_rows)
    assert drop_last or sorted(all_rows) == list(range(len(lengths)))
    if all_rows and not drop_last:
        assert max(lengths) == lengths[taken[0][0][0]]


@settings(max_examples=60, deadline=None)
@given(lengths=some_lengths, most=st.integers(1, 120), shuffle=st.booleans(), world=st.integers(1, 3))
def test_batches_hold_at_most_so_many_tokens(lengths, most, shuffle, world):
    given = {"max_tokens": most, "shuffle": shuffle}
    parts = [loader(lengths, share=(rank, world), **given) for rank in range(world)]
    taken = [rows(dl) for dl in parts]
    assert sorted(i for part in taken for batch in part for i in batch) == list(range(len(lengths)))
    assert all(len(part) == len(dl) for part, dl in zip(taken, parts, strict=True)) or len(lengths) < world
    for batch in (batch for part in taken for batch in part):
        if world == 1 and len(batch) > 1:
            assert len(batch) * max(lengths[i] for i in batch) <= most


def test_in_order_the_longest_come_first():
    lengths = [3, 9, 1, 7, 5]
    assert rows(loader(lengths, bs=2)) == [[1, 3], [4, 0], [2]]
    assert rows(loader(lengths, bs=2, res=[1, 2, 3, 4, 5])) == [[4, 3], [2, 1], [0]]
    assert rows(loader(lengths, bs=2, sort_func=lambda o: -float(o[1]))) == [[0, 1], [2, 3], [4]]


def test_there_is_hardly_any_padding():
    lengths = np.random.default_rng(0).lognormal(5, 0.8, 2000).clip(8, 512).astype(int).tolist()
    for settings_ in ({}, {"shuffle": True}, {"max_tokens": 8192, "shuffle": True}):
        batches = [x for x, _ in loader(lengths, bs=32, **settings_)]
        assert sum(x.numel() for x in batches) / sum(lengths) <= 1.05


def test_what_drop_last_leaves_out_changes_and_is_not_the_shortest():
    dl = loader(list(range(1, 40)), shuffle=True, drop_last=True)
    left_out = [set(range(39)) - {i for batch in rows(dl) for i in batch} for _ in range(20)]
    assert all(len(some) == 3 for some in left_out)
    assert np.mean([i for some in left_out for i in some]) > 10


@pytest.mark.parametrize("settings_", [{}, {"max_tokens": 60}])
def test_any_number_of_workers_and_any_interruption_give_the_same_batches(settings_):
    lengths = np.random.default_rng(0).integers(1, 30, 90).tolist()
    wanted = rows(loader(lengths, shuffle=True, **settings_))
    assert rows(loader(lengths, shuffle=True, num_workers=2, **settings_)) == wanted
    dl, again = (loader(lengths, shuffle=True, **settings_) for _ in range(2))
    taken = [next(batches) for batches in [iter(dl)] for _ in range(4)]
    again.load_state_dict(dl.state_dict())
    assert [*([int(i) for i in y] for _, y in taken), *rows(again)] == wanted


@settings(max_examples=20, deadline=None)
@given(lengths=some_lengths, most=st.none() | st.integers(20, 200))
def test_predictions_are_in_the_order_of_the_rows(lengths, most):
    valid = samples(lengths)
    dls = DataLoaders.from_dsets(
        samples([3] * 8), valid, dl_type=SortedDL, bs=4, max_tokens=most, before_batch=pad_input, device="cpu"
    )
    learn = Learner(dls, FirstToken(), MSELossFlat())
    wanted = [float(i) for i in range(len(lengths))]
    with learn.no_bar():
        for preds, targets, losses in (learn.get_preds(with_loss=True), learn.get_preds(dl=dls.valid, with_loss=True)):
            assert preds.tolist() == targets.tolist() == wanted
            assert not losses.any()
        new = dls.test_dl([(text,) for text, _ in valid])
        assert [int(i) - 2 for (x,) in new for i in x[:, 0]] == list(range(len(lengths)))
        assert learn.get_preds(dl=new)[0].tolist() == wanted
        assert torch.cat([preds for preds, _ in learn.stream_preds()]).tolist() == wanted
        assert Interpretation.from_learner(learn).preds.tolist() == wanted


def test_lengths_must_be_those_of_the_items():
    with pytest.raises(BadValue, match="a length for each item"):
        list(loader([3, 4, 5], res=[3, 4]))
    with pytest.raises(BadValue, match="max_tokens=0"):
        loader([3, 4, 5], max_tokens=0)


def test_seq_len_of_a_language_model_is_ignored_with_a_warning():
    with pytest.warns(UserWarning, match="seq_len is ignored.*max_len"):
        dl = loader([2, 5, 1], bs=2, seq_len=80)
    assert [x.shape[1] for x, _ in dl] == [5, 1]

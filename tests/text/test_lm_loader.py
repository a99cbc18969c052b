"""The batches of a language model, against streams cut by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from layered.foundation import BadValue
from layered.text.all import (
    Checkpoint,
    CrossEntropyLossFlat,
    DataLoaders,
    Datasets,
    L,
    Learner,
    LMDataLoader,
    LMTensorText,
    TensorText,
    TfmdLists,
    set_seed,
    tensor,
)


def texts(*lengths):
    """Texts whose tokens are numbered through."""
    ends = np.cumsum(lengths)
    return [torch.arange(end - length, end) for end, length in zip(ends, lengths, strict=True)]


def streams(order, bs, seq_len):
    """The batches, by the definition: all tokens in a row, cut into `bs` streams, each read `seq_len` tokens at a time."""
    tokens = np.concatenate([np.asarray(text) for text in order])
    length = (len(tokens) - 1) // bs
    inputs, targets = (tokens[i : i + bs * length].reshape(bs, length) for i in (0, 1))
    return [
        (inputs[:, i : i + seq_len].tolist(), targets[:, i : i + seq_len].tolist()) for i in range(0, length, seq_len)
    ]


def read(dl):
    return [(x.tolist(), y.tolist()) for x, y in dl]


def test_row_i_goes_on_where_it_ended():
    ints = L([0, 1, 2, 3, 4], [5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16, 17, 18], [19, 20], [21, 22]).map(tensor)
    (x0, y0), (x1, y1) = LMDataLoader(ints, bs=4, seq_len=3)
    assert x0.tolist() == [[0, 1, 2], [5, 6, 7], [10, 11, 12], [15, 16, 17]]
    assert y0.tolist() == [[1, 2, 3], [6, 7, 8], [11, 12, 13], [16, 17, 18]]
    assert x1.tolist() == [[3, 4], [8, 9], [13, 14], [18, 19]]
    assert y1.tolist() == [[4, 5], [9, 10], [14, 15], [19, 20]]
    assert type(x0) is LMTensorText
    assert type(y0) is TensorText
    assert x0.dtype == y0.dtype == torch.int64


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=12),
    bs=st.integers(1, 7),
    seq_len=st.integers(1, 9),
)
def test_batches_are_those_cut_by_hand(lengths, bs, seq_len):
    data = texts(*lengths)
    dl = LMDataLoader(data, bs=bs, seq_len=seq_len)
    if sum(lengths) <= bs:
        with pytest.raises(BadValue, match="too few tokens"):
            list(dl)
        return
    assert read(dl) == streams(data, bs, seq_len)
    assert len(dl) == len(streams(data, bs, seq_len))


@pytest.mark.parametrize("workers", [0, 2])
def test_texts_are_shuffled_anew_each_epoch_and_stay_whole(workers):
    data = texts(5, 6, 8, 2, 2, 40, 1, 1)
    dl = LMDataLoader(data, bs=4, seq_len=3, shuffle=True, seed=1, num_workers=workers)
    order = dl.text_order()
    first, second = read(dl), read(dl)
    assert first == streams([data[i] for i in order], 4, 3)
    assert first != second
    assert sorted(order.tolist()) == list(range(8))


def test_an_epoch_goes_on_from_any_batch():
    def made():
        return LMDataLoader(texts(50, 20, 31), bs=3, seq_len=4, shuffle=True, seed=1)

    wanted = read(made())
    for taken in range(1, len(wanted)):
        dl, again = made(), made()
        batches = iter(dl)
        for _ in range(taken):
            next(batches)
        again.load_state_dict(dl.state_dict())
        assert read(again) == wanted[taken:]


def test_processes_share_the_streams():
    data, both = texts(40, 9, 33), streams(texts(40, 9, 33), 4, 5)
    parts = [read(LMDataLoader(data, bs=2, seq_len=5, share=(rank, 2))) for rank in (0, 1)]
    for (x, y), *shares in zip(both, *parts, strict=True):
        assert [row for rows in zip(*(share[0] for share in shares), strict=True) for row in rows] == x
        assert [row for rows in zip(*(share[1] for share in shares), strict=True) for row in rows] == y


def test_data_sets_of_the_library_give_their_texts():
    data = texts(9, 12, 30)
    split = [[0, 1], [2]]
    for dsets in (
        Datasets(data, [[TensorText]], splits=split, dl_type=LMDataLoader),
        TfmdLists(data, TensorText, splits=split, dl_type=LMDataLoader),
    ):
        dls = dsets.dataloaders(bs=2, seq_len=4, shuffle=False, device="cpu")
        assert read(dls.train) == streams(data[:2], 2, 4)
        assert read(dls.valid) == streams(data[2:], 2, 4)
        assert dls.train.n_inp == 1


def test_the_number_of_texts_does_not_limit_the_batch_size():
    dls = DataLoaders.from_dsets(texts(100), texts(80), dl_type=LMDataLoader, bs=8, seq_len=5, device="cpu")
    assert len(dls.train) == 3
    assert len(list(dls.train)) == 3
    dls.train.bs = 4
    assert len(dls.train) == len(list(dls.train)) == 5
    assert len(dls.train.new(seq_len=12)) == 2


def test_too_little_text_says_how_little():
    with pytest.raises(BadValue, match="too few tokens") as caught:
        list(LMDataLoader(texts(3, 4), bs=64))
    assert "7 tokens in 2 texts" in str(caught.value.got)
    assert caught.value.fix.startswith("bs=")
    with pytest.raises(BadValue, match="seq_len"):
        LMDataLoader(texts(3, 4), bs=1, seq_len=0)


def test_a_fit_goes_on_from_its_checkpoint_where_it_was_killed(tmp_path):
    class Killed(Exception):
        pass

    class Recurrent(nn.Module):
        """A model that remembers what it read in the batch before."""

        def __init__(self):
            super().__init__()
            self.emb, self.rnn, self.out = nn.Embedding(40, 6), nn.GRU(6, 6, batch_first=True), nn.Linear(6, 40)
            self.register_buffer("hidden", torch.zeros(1, 4, 6))

        def forward(self, x):
            out, hidden = self.rnn(self.emb(x), self.hidden)
            self.hidden = hidden.detach()
            return self.out(out)

    def train(kill_at=None, **kwargs):
        set_seed(0)
        data = [text % 40 for text in texts(150, 90, 111, 60)]
        dls = DataLoaders.from_dsets(data, data[:2], dl_type=LMDataLoader, bs=4, seq_len=8, device="cpu")
        learn = Learner(dls, Recurrent(), CrossEntropyLossFlat(), path=tmp_path)

        @learn.on("after_batch")
        def stop(learn):
            if learn.train_iter == kill_at:
                raise Killed

        with learn.no_bar(), learn.no_logging():
            learn.fit_one_cycle(2, 1e-2, **kwargs)
        return learn.model.state_dict()

    wanted = train()
    with pytest.raises(Killed):
        train(18, checkpoint=Checkpoint(tmp_path / "saved", "3 batches"))
    again = train(resume=tmp_path / "saved", checkpoint=Checkpoint(tmp_path / "saved"))
    assert all(torch.equal(value, wanted[name]) for name, value in again.items())

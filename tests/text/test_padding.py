"""Padding: what is added to texts, and what models are told about it."""

import pytest
import torch

from layered.foundation import plain
from layered.text.all import DataLoaders, Learner, MSELossFlat, SortedDL, TensorText, nn, tensor
from layered.text.padding import Pad_Chunk, Pad_Input, pad_chunk, pad_input, pad_input_chunk, reverse_text
from layered.text.types import padding_mask

SAMPLES = [(tensor([1, 2, 3]), 1), (tensor([4, 5]), 2), (tensor([6]), 3)]


def listed(samples):
    return [[o.tolist() if isinstance(o, torch.Tensor) else o for o in sample] for sample in samples]


def test_texts_are_padded_to_the_longest():
    assert listed(pad_input(SAMPLES, pad_idx=0)) == [[[1, 2, 3], 1], [[4, 5, 0], 2], [[6, 0, 0], 3]]
    assert listed(pad_input(SAMPLES, pad_first=True)) == [[[1, 2, 3], 1], [[1, 4, 5], 2], [[1, 1, 6], 3]]
    assert listed(pad_input(SAMPLES, pad_idx=0, backwards=True)) == [[[3, 2, 1], 1], [[0, 5, 4], 2], [[0, 0, 6], 3]]
    pairs = [(tensor([1, 2, 3]), tensor([1])), (tensor([4]), tensor([5, 6]))]
    assert listed(pad_input(pairs, pad_fields=1, pad_idx=0)) == [[[1, 2, 3], [1, 0]], [[4], [5, 6]]]
    assert listed(Pad_Input(0, [0, 1])(pairs)) == [[[1, 2, 3], [1, 0]], [[4, 0, 0], [5, 6]]]


def test_whole_chunks_come_first_and_the_rest_last():
    assert pad_chunk(tensor([5, 6]), seq_len=3, pad_len=7).tolist() == [1, 1, 1, 5, 6, 1, 1]
    assert pad_chunk(tensor([5, 6]), 0, pad_first=False, seq_len=3, pad_len=7).tolist() == [5, 6, 0, 0, 0, 0, 0]
    padded = pad_input_chunk(SAMPLES, pad_idx=0, seq_len=2)
    assert listed(padded) == [[[1, 2, 3], 1], [[4, 5, 0], 2], [[0, 0, 6], 3]]
    texts = [(TensorText(x), y) for x, y in SAMPLES]
    assert listed(Pad_Chunk(pad_idx=0, seq_len=2)(texts)) == listed(padded)


@pytest.mark.parametrize("length", range(1, 12))
def test_a_text_starts_where_a_chunk_does(length):
    x = pad_chunk(TensorText(torch.arange(5, 5 + length)), seq_len=3, pad_len=11)
    assert len(x) == 11
    assert int((~x.padding).nonzero()[0]) % 3 == 0
    assert x[~x.padding].tolist() == list(range(5, 5 + length))


def test_a_text_is_reversed():
    assert reverse_text(TensorText([1, 2, 3])).tolist() == [3, 2, 1]


PAD = 1


def batch(before_batch):
    """A batch of two texts that hold the index of the padding themselves."""
    data = [(TensorText([5, PAD, 6, PAD]), 0.0), (TensorText([PAD, 7]), 1.0)]
    return SortedDL(data, bs=2, before_batch=before_batch)


@pytest.mark.parametrize("before_batch", [Pad_Input(), Pad_Input(pad_first=True), Pad_Chunk(seq_len=2)])
@pytest.mark.parametrize("workers", [0, 1])
def test_the_mask_and_not_the_index_says_what_is_padding(before_batch, workers):
    dl = batch(before_batch).new(num_workers=workers)
    x, _ = next(iter(dl))
    assert (~x.padding).sum(1).tolist() == [4, 2]
    assert [row[~hidden].tolist() for row, hidden in zip(plain(x), x.padding, strict=True)] == [[5, 1, 6, 1], [1, 7]]
    assert [text.tolist() for text, _ in dl.decode_batch((x, torch.zeros(2)))] == [[5, 1, 6, 1], [1, 7]]
    assert torch.equal(padding_mask(plain(x)), x.padding)


def test_models_get_the_mask_in_a_fit_and_in_predictions():
    seen = []

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            assert type(x) is torch.Tensor
            seen.append((~padding_mask(x)).sum(1).tolist())
            return x[:, 0] * self.scale

    dl = batch(Pad_Input())
    learn = Learner(DataLoaders(dl, dl), Model(), MSELossFlat())
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
        learn.get_preds()
        learn.get_preds(dl=[dl.one_batch()])
        learn.summary()
    assert len(seen) >= 4
    assert all(lengths == [4, 2] for lengths in seen)


def test_the_mask_follows_copies_and_rows_and_nothing_else():
    x, _ = batch(Pad_Input()).one_batch()
    assert torch.equal(x[1].padding, x.padding[1])
    assert torch.equal(x[:1].padding, x.padding[:1])
    assert torch.equal(x.to("cpu", torch.int32).padding, x.padding)
    assert torch.equal(x.clone().padding, x.padding)
    assert torch.equal(x.flip(1).padding, x.padding.flip(1))
    assert [row.padding.tolist() for row in x] == x.padding.tolist()
    for other in (x + 1, x.float(), x.T, x.topk(2).values):
        assert "padding" not in vars(other)
    weights = torch.zeros(9, 3)
    assert "padding" not in vars(weights[x])
    assert padding_mask(torch.tensor([[4, 1]])).tolist() == [[False, True]]  # nobody has padded it

"""Bytes become floats, floats standard scores, and back."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.testing import assert_close

from layered.data import IntToFloatTensor, Normalize, TfmdDL, broadcast_vec
from layered.foundation import BadValue, TensorCategory, TensorImage, TensorMask, plain


def test_bytes_become_floats_and_masks_whole_numbers():
    image = TensorImage(torch.tensor([[[0, 51, 255]]], dtype=torch.uint8))
    mask = TensorMask(torch.tensor([[0, 255]], dtype=torch.uint8))
    x, y, label = IntToFloatTensor(div_mask=255)((image, mask, TensorCategory(3)))
    assert_close(plain(x), torch.tensor([[[0, 0.2, 1]]]))
    assert type(x) is TensorImage
    assert y.tolist() == [[0, 1]]
    assert y.dtype == torch.int64
    assert label.dtype == torch.int64
    assert IntToFloatTensor()(mask).tolist() == [[0, 255]]
    assert image.dtype == torch.uint8
    assert IntToFloatTensor().decode(TensorImage([-1.0, 2.0])).tolist() == [0, 1]


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0.1, 3)), min_size=1, max_size=4))
def test_decoding_undoes_normalizing(stats):
    mean, std = zip(*stats, strict=True)
    tfm = Normalize.from_stats(mean, std)
    x = TensorImage(torch.linspace(0, 1, 2 * len(mean) * 4).reshape(2, len(mean), 2, 2))
    before = x.clone()
    assert_close(plain(tfm.decode(tfm(x))), plain(before), atol=1e-5, rtol=1e-5)
    assert torch.equal(x, before)
    wanted = (plain(x)[:, 0] - mean[0]) / std[0]
    assert_close(plain(tfm(x))[:, 0], wanted)


def test_statistics_are_fitted_on_a_batch_where_they_are_not_given():
    images = [(TensorImage(torch.rand(3, 4, 4) * 3 + 2), i) for i in range(8)]
    dl = TfmdDL(images, bs=8, after_batch=Normalize(), num_workers=0)
    x, _ = dl.one_batch()
    assert_close(plain(x).mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    assert_close(plain(x).std((0, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)


def test_a_divisor_that_would_leave_no_classes_is_refused():
    def loader(value):
        return TfmdDL([TensorMask(torch.full((2, 2), value))] * 4, bs=2, after_batch=IntToFloatTensor(div_mask=255))

    assert int(loader(255).one_batch().max()) == 1
    assert int(loader(0).one_batch().max()) == 0
    with pytest.raises(BadValue, match="div_mask=255 makes all classes"):
        loader(1)


@pytest.mark.parametrize("channels", [1, 4])
def test_statistics_of_another_number_of_channels_are_refused(channels):
    colour, shared = Normalize.from_stats([0.5] * 3, [0.5] * 3), Normalize.from_stats([0.5], [0.5])
    images = TensorImage(torch.rand(2, channels, 4, 4))
    for use in (colour, colour.decode):
        with pytest.raises(BadValue, match="another number of channels") as caught:
            use(images)
        assert "3 means" in caught.value.got
    assert_close(plain(shared(images)), (plain(images) - 0.5) / 0.5)


def test_normalizing_without_statistics_is_an_error():
    with pytest.raises(BadValue, match="no statistics yet"):
        Normalize()(TensorImage(torch.zeros(1, 3, 2, 2)))


def test_other_types_pass_and_pickles_remember():
    tfm = pickle.loads(pickle.dumps(Normalize([0.5], [0.25])))
    assert tfm(TensorImage(torch.ones(1, 1, 1, 1))).item() == 2
    mask = TensorMask(torch.ones(1, 1))
    assert tfm(mask) is mask


def test_vectors_are_laid_along_an_axis():
    a, b = broadcast_vec(1, 4, [1, 2, 3], [4])
    assert (a.shape, b.shape) == ((1, 3, 1, 1), (1, 1, 1, 1))


def test_a_constant_channel_has_the_scale_1():
    images = [(TensorImage(torch.stack([torch.full((4, 4), 0.1), torch.rand(4, 4)])), i) for i in range(8)]
    with pytest.warns(UserWarning, match=r"the same in the channels \[0\]"):
        tfm = TfmdDL(images, bs=8, after_batch=Normalize(), num_workers=0).after_batch.normalize
    x = TensorImage(torch.full((1, 2, 1, 1), 0.6))
    assert plain(tfm(x))[0, 0].item() == pytest.approx(0.5)
    assert plain(tfm.decode(tfm(x)))[0, 0].item() == pytest.approx(0.6)

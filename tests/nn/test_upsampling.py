import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from layered.nn import NormType, PixelShuffle_ICNR, icnr_init


@pytest.mark.parametrize("norm_type", [NormType.Weight, NormType.Spectral, None])
@pytest.mark.parametrize("scale", [2, 3])
def test_a_fresh_pixel_shuffle_enlarges_by_nearest_neighbours(norm_type, scale):
    x = torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(0))
    y = PixelShuffle_ICNR(6, 3, scale, norm_type=norm_type)(x)
    assert y.shape == (2, 3, 4 * scale, 5 * scale)
    assert_close(y, F.interpolate(y[:, :, ::scale, ::scale], scale_factor=scale))
    assert y.std() > 0.01


def test_blurring_is_the_mean_over_each_pixel_and_those_before_it():
    x = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    layer = PixelShuffle_ICNR(4, blur=True)
    sharp = F.pad(layer[:2](x), (1, 0, 1, 0), mode="replicate")
    wanted = (sharp[..., 1:, 1:] + sharp[..., :-1, 1:] + sharp[..., 1:, :-1] + sharp[..., :-1, :-1]) / 4
    assert_close(layer(x), wanted)


def test_icnr_repeats_each_initialised_filter():
    weight = icnr_init(torch.zeros(8, 3, 1, 1), scale=2, init=nn.init.normal_)
    assert weight.shape == (8, 3, 1, 1)
    assert torch.equal(weight[:4], weight[:1].expand(4, 3, 1, 1))
    assert not torch.equal(weight[0], weight[4])

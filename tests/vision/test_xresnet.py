"""XResNets: which layers each builder makes, that they run, and how a learner takes them."""

import pytest
import torch
from torch import nn

from layered.files import weightless
from layered.foundation import BadArgument
from layered.nn import ConvLayer, SimpleSelfAttention, describe_module, rebuild_module
from layered.vision import all as vision
from layered.vision.all import (
    XResNet,
    block_groups,
    create_unet_model,
    create_vision_model,
    init_cnn,
    model_meta,
    xresnet18,
    xresnet34,
    xresnet50,
    xresnet50_deep,
)

DEPTHS = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3), "50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3)}
NAMES = [
    *("xresnet18", "xresnet34", "xresnet50", "xresnet101", "xresnet152", "xsenet154"),
    *(f"xresnet{depth}_{kind}" for depth in (18, 34, 50) for kind in ("deep", "deeper")),
    *(f"xse_resnet{depth}" for depth in DEPTHS),
    *(f"{kind}{depth}" for kind in ("xresnext", "xse_resnext") for depth in (18, 34, 50, 101)),
    *(f"xse_resnext{depth}_{kind}" for depth in (18, 34, 50) for kind in ("deep", "deeper")),
]


@pytest.mark.parametrize("name", NAMES)
def test_every_builder_makes_a_model_that_runs_and_has_the_blocks_of_its_name(name):
    with weightless():
        model = getattr(vision, name)(n_out=7).to("meta")
    side = 64 if "deep" not in name else 256
    with torch.no_grad():
        assert model.eval()(torch.empty(2, 3, side, side, device="meta")).shape == (2, 7)
    groups = [child for child in model if type(child) is nn.Sequential]
    depth = next((d for d in ("18", "34", "50", "101", "152") if d in name), "152")
    if name.endswith("deeper"):
        assert len(groups) == 8
    else:
        assert tuple(map(len, groups))[:4] == DEPTHS[depth]
        assert len(groups) == (6 if name.endswith("deep") else 4)
    convs = sum(isinstance(m, ConvLayer) for m in groups[0][1].convpath)
    assert convs == (2 if depth in ("18", "34") else 3)
    grouped = max(m.groups for m in groups[0].modules() if isinstance(m, nn.Conv2d))
    assert grouped == (64 if name == "xsenet154" else 32 if "next" in name else 1)
    has_se = any(type(m).__name__ == "SEModule" for m in model.modules())
    assert has_se == name.startswith("xse")


def conv(ni, nf, ks):
    """A convolution without bias, and its norm."""
    return ni * nf * ks * ks + 2 * nf


def test_the_number_of_parameters_follows_from_the_widths():
    stem = conv(3, 32, 3) + conv(32, 32, 3) + conv(32, 64, 3)
    basic, ni = stem, 64
    for count, nf in zip(DEPTHS["18"], (64, 128, 256, 512), strict=True):
        for _ in range(count):
            basic += conv(ni, nf, 3) + conv(nf, nf, 3) + (conv(ni, nf, 1) if ni != nf else 0)
            ni = nf
    assert sum(p.numel() for p in xresnet18(n_out=10).parameters()) == basic + 512 * 10 + 10
    bottleneck, ni = stem, 64
    for count, nf in zip(DEPTHS["50"], (64, 128, 256, 512), strict=True):
        for _ in range(count):
            bottleneck += (
                conv(ni, nf, 1) + conv(nf, nf, 3) + conv(nf, 4 * nf, 1) + (conv(ni, 4 * nf, 1) if ni != 4 * nf else 0)
            )
            ni = 4 * nf
    assert sum(p.numel() for p in xresnet50(n_out=10).parameters()) == bottleneck + 2048 * 10 + 10


def test_each_stage_has_half_the_size_of_the_one_before():
    sizes, x = [], torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for layer in xresnet18().eval()[:8]:
            x = layer(x)
            sizes.append(tuple(x.shape[1:]))
    assert sizes == [
        (32, 32, 48), (32, 32, 48), (64, 32, 48), (64, 16, 24), (64, 16, 24), (128, 8, 12), (256, 4, 6), (512, 2, 3),
    ]  # fmt: skip


def test_arguments_reach_the_layers():
    model = xresnet18(c_in=1, n_out=4, widen=0.5, p=0.3, sa=True, act_cls=nn.SiLU, stem_szs=(8, 16))
    assert model(torch.rand(2, 1, 32, 32)).shape == (2, 4)
    assert model[-2].p == 0.3
    assert model[-1].in_features == 256
    attending = [i for i, child in enumerate(model) if any(isinstance(m, SimpleSelfAttention) for m in child.modules())]
    assert attending == [3]
    assert not any(isinstance(m, nn.ReLU) for m in model.modules())
    assert xresnet18(ndim=1, n_out=3)(torch.rand(2, 3, 64)).shape == (2, 3)
    with pytest.raises(BadArgument):
        xresnet18(n_outt=4)


def test_it_starts_from_hes_weights_and_biases_of_0_each_block_as_its_shortcut():
    torch.manual_seed(0)
    model = xresnet18()
    assert all(not p.any() for n, p in model.named_parameters() if n.endswith("bias"))
    weight = model[7][1].convpath[0][0].weight
    assert weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.02)
    block = model[4][1].eval()
    x = torch.rand(1, 64, 8, 8)
    assert torch.equal(block(x), x)
    head = nn.Sequential(nn.Linear(64, 128))
    init_cnn(head)
    assert head[0].weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.05)


def test_there_are_no_trained_weights_but_local_ones_are_taken():
    with pytest.raises(BadArgument, match="no trained weights of xresnet34") as caught:
        create_vision_model(xresnet34, 2)
    assert "pretrained=False" in caught.value.fix
    torch.manual_seed(0)
    state = xresnet18(n_out=6).state_dict()
    with pytest.warns(UserWarning, match=r"11\.weight \(6, 512\)"):
        body = create_vision_model(xresnet18, 2, weights=state)[0]
    assert torch.equal(body[0][0].weight, state["0.0.weight"])


def test_a_learner_takes_them_with_their_cut_and_groups():
    model = create_vision_model(xresnet18, 2, pretrained=False)
    assert [type(m) for m in model[0]] == [ConvLayer] * 3 + [nn.MaxPool2d] + [nn.Sequential] * 4
    stem, blocks, head = model_meta[xresnet18]["split"](model)
    assert len(stem) == 3 * 3
    assert len(stem) + len(blocks) == len(list(model[0].parameters()))
    assert len(head) == len(list(model[1].parameters()))
    assert len(block_groups(model)) == 3 + 8 + 1
    assert model_meta[xresnet50_deep]["cut"] is None
    assert create_vision_model(xresnet50_deep, 2, pretrained=False).eval()(torch.rand(1, 3, 256, 256)).shape == (1, 2)
    unet = create_unet_model(xresnet18, 3, 64, pretrained=False).eval()
    assert [(channels, by) for _, channels, by in unet.levels] == [(64, 2), (64, 4), (128, 8), (256, 16), (512, 32)]
    assert unet(torch.rand(1, 3, 65, 97)).shape == (1, 3, 65, 97)


@pytest.mark.parametrize("make", [lambda: xresnet18(n_out=3), lambda: vision.xse_resnext18(n_out=3, act_cls=nn.SiLU)])
def test_they_are_data(make):
    torch.manual_seed(0)
    model = make().eval()
    again = rebuild_module(describe_module(model))
    again.load_state_dict(model.state_dict())
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(again.eval()(x), model(x))
    assert isinstance(again, XResNet)

"""U-Nets: their feature maps, their shapes, what they compute, and that they learn to segment photographs."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.metrics import f1_score, jaccard_score
from torch import nn
from torch.testing import assert_close

from layered.files import weightless
from layered.foundation import BadArgument, BadValue, TensorMask
from layered.integrations import timm_maps
from layered.nn import NormType, PooledSelfAttention2d, SelfAttention, describe_module, rebuild_module
from layered.vision.all import (
    Adam,
    CategoryBlock,
    DataBlock,
    DiceMulti,
    DynamicUnet,
    ImageBlock,
    JaccardCoeff,
    MaskBlock,
    MSELossFlat,
    Path,
    PILImage,
    PILImageBW,
    ResizeToOrig,
    SequentialEx,
    UnetBlock,
    block_groups,
    create_body,
    create_unet_model,
    load_learner,
    model_meta,
    models,
    resnet18,
    set_seed,
    unet_learner,
)
from layered.vision.models.unet import find_levels


def tiny_body(n_in=3):
    return nn.Sequential(
        nn.Conv2d(n_in, 8, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)
    )


def tiny_net(pretrained=False):
    """An architecture of your own, cut before its last pooling."""
    torch.manual_seed(0)
    return nn.Sequential(*tiny_body(), nn.Conv2d(16, 24, 3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


# The maps of a body.

RESNET = [(64, 2), (64, 4), (128, 8), (256, 16), (512, 32)]
LEVELS = {  # channels and reduction of each map
    models.resnet18: RESNET,
    models.vgg11_bn: [(64, 1), (128, 2), (256, 4), (512, 8), (512, 16), (512, 32)],
    models.densenet121: [(64, 2), (256, 4), (512, 8), (1024, 16), (1024, 32)],
    models.squeezenet1_1: [(64, 2), (128, 4), (256, 8), (512, 17)],
    models.mobilenet_v2: [(16, 2), (24, 4), (32, 8), (96, 16), (1280, 32)],
    models.efficientnet_b0: [(16, 2), (24, 4), (40, 8), (112, 16), (1280, 32)],
    models.convnext_tiny: [(96, 4), (192, 8), (384, 16), (768, 32)],
    models.swin_t: [(96, 4), (192, 8), (384, 16), (768, 32)],
    models.regnet_y_400mf: [(32, 2), (48, 4), (104, 8), (208, 16), (440, 32)],
    models.shufflenet_v2_x0_5: [(24, 2), (24, 4), (48, 8), (96, 16), (1024, 32)],
    models.googlenet: [(64, 2), (192, 4), (480, 8), (832, 16), (1024, 32)],
    models.inception_v3: [(64, 2), (192, 4), (288, 9), (768, 18), (2048, 43)],  # sides of 127, 62, 29, 14 and 6
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("arch", LEVELS, ids=lambda arch: arch.__name__)
def test_a_torchvision_body_gives_a_map_of_each_size_and_the_output_has_that_of_the_image(arch):
    with weightless():
        body = create_body(arch, pretrained=False, cut=model_meta[arch]["cut"]).to("meta")
        unet = DynamicUnet(body, 7, (256, 256)).to("meta").eval()
    assert [(channels, by) for _, channels, by in unet.levels] == LEVELS[arch]
    with torch.no_grad():
        for size in ((128, 128), (97, 135)):
            assert unet(torch.empty(2, 3, *size, device="meta")).shape == (2, 7, *size)


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto", "tf_efficientnet_lite0", "hrnet_w18_small"])
def test_the_maps_of_a_timm_body_are_those_of_timm(name):
    torch.manual_seed(0)
    whole = timm.create_model(name)
    body = timm_maps(name, weights=whole.state_dict()).eval()
    theirs = timm.create_model(
        name, features_only=True, pretrained=True, pretrained_cfg_overlay={"state_dict": whole.state_dict()}
    ).eval()
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        found, wanted = body(x), theirs(x)
    last = {y.shape[-1]: y for y in wanted}
    assert_close(found, list(last.values()))
    assert [(y.shape[1], 96 // y.shape[3]) for y in found] == [(channels, by) for _, channels, by in body.levels]


@pytest.mark.parametrize(
    ("name", "size"), [("resnet10t", (65, 97)), ("convnext_atto", (64, 96)), ("swin_tiny_patch4_window7_224", (96, 64))]
)
def test_a_timm_body_takes_images_of_other_sizes(name, size):
    unet = create_unet_model(name, 3, size, pretrained=False).eval()
    with torch.no_grad():
        assert unet(torch.rand(1, 3, *size)).shape == (1, 3, *size)
    assert all(p.grad is None for p in unet.parameters())
    unet.train()(torch.rand(2, 3, *size)).sum().backward()
    assert [n for n, p in unet.named_parameters() if p.grad is None] == []


def test_small_images_have_fewer_sizes():
    body = create_body(resnet18, pretrained=False, cut=-2)
    assert [by for *_, by in find_levels(body, (32, 32))] == [2, 4, 8, 16, 32]
    assert [by for *_, by in find_levels(body, (8, 8))] == [2, 4, 8]
    assert DynamicUnet(body, 2, (8, 8)).eval()(torch.rand(1, 3, 8, 8)).shape == (1, 2, 8, 8)


# What is computed.


def test_a_block_joins_what_comes_from_below_with_the_map_beside():
    torch.manual_seed(0)
    block = UnetBlock(16, 6).eval()
    nn.init.normal_(block.bn.bias)
    below, beside = torch.randn(2, 16, 3, 5), torch.randn(2, 6, 7, 9)
    conv = block.shuf[0][0]
    up = F.pixel_shuffle(F.conv2d(below, conv.weight, conv.bias).relu(), 2)
    up = F.interpolate(up, (7, 9), mode="nearest")
    assert up.shape == (2, 8, 7, 9)
    x = torch.cat([up, F.batch_norm(beside, torch.zeros(6), torch.ones(6), block.bn.weight, block.bn.bias)], 1).relu()
    for conv in (block.conv1[0], block.conv2[0]):
        x = F.conv2d(x, conv.weight, conv.bias, padding=1).relu()
    assert_close(block(below, beside), x)
    assert x.shape == (2, 14, 7, 9)
    assert UnetBlock(16, 6, final_div=False)(below, beside).shape == (2, 7, 7, 9)


def test_the_whole_is_the_sum_of_its_parts():
    torch.manual_seed(0)
    body = create_body(resnet18, pretrained=False, cut=-2)
    unet = DynamicUnet(body, 5, (64, 64)).eval()
    kinds = ["Sequential", "BatchNorm2d", "ReLU", "Sequential", *["UnetBlock"] * 4, "PixelShuffle_ICNR", "ResizeToOrig"]
    assert [type(layer).__name__ for layer in unet.layers] == [*kinds, "MergeLayer", "ResBlock", "ConvLayer"]
    _, norm, _, middle, *blocks, shuffle, _, _, last, out = unet.layers
    x = torch.rand(1, 3, 65, 97)
    with torch.no_grad():
        a = body[:3](x)
        b = body[4](body[3](a))
        c = body[5](b)
        d = body[6](c)
        y = middle(norm(body[7](d)).relu())
        for block, beside in zip(blocks, (d, c, b, a), strict=True):
            y = block(y, beside)
        y = F.interpolate(shuffle(y), (65, 97), mode="nearest")
        assert_close(unet(x), out(last(torch.cat([y, x], 1))))


def conv(ni, nf, ks=3):
    return ni * nf * ks * ks + nf


def test_the_number_of_parameters_follows_from_the_channels():
    body = create_body(resnet18, pretrained=False, cut=-2)
    wanted = sum(p.numel() for p in body.parameters()) + 2 * 512 + conv(512, 1024) + conv(1024, 512)
    ni = 512
    for i, beside in enumerate((256, 128, 64, 64)):
        wanted += conv(ni, ni // 2 * 4, 1) + 2 * beside
        joined = ni // 2 + beside
        nf = joined if i < 3 else joined // 2
        wanted += conv(joined, nf) + conv(nf, nf)
        ni = nf
    wanted += conv(ni, ni * 4, 1)
    ni += 3
    wanted += 2 * conv(ni, ni) + conv(ni, 5, 1)
    assert sum(p.numel() for p in DynamicUnet(body, 5, (64, 64)).parameters()) == wanted


@pytest.mark.parametrize(
    "args",
    [
        {"self_attention": True},
        {"blur": True},
        {"blur": True, "blur_final": False},
        {"last_cross": False},
        {"bottle": True},
        {"norm_type": NormType.Batch, "act_cls": nn.SiLU},
        {"norm_type": NormType.Weight},
        {"y_range": (-1, 2)},
        {"init": None},
    ],
    ids=str,
)
def test_each_argument_does_what_it_says(args, tmp_path):
    torch.manual_seed(0)
    unet = DynamicUnet(tiny_body(4), 3, (40, 40), **args).eval()
    x = torch.rand(2, 4, 33, 50)
    y = unet(x)
    assert y.shape == (2, 3, 33, 50)
    kinds = [type(m) for m in unet.modules()]
    blurs = kinds.count(nn.ReplicationPad2d)
    assert blurs == (0 if not args.get("blur") else 3 if args.get("blur_final", True) else 1)
    assert kinds.count(SelfAttention) == int("self_attention" in args)
    joined = next(layer for layer in reversed(list(unet.layers)) if type(layer).__name__ == "ResBlock")
    first, second = (part[0] for part in joined.convpath[:2])
    assert first.in_channels == second.out_channels
    assert first.out_channels == first.in_channels // (2 if "bottle" in args else 1)
    assert first.in_channels == ((16 // 2 + 16) // 2 + 8) // 2 + (0 if "last_cross" in args else 4)
    if "y_range" in args:
        assert ((y >= -1) & (y <= 2)).all()
    rebuilt = rebuild_module(describe_module(unet))
    rebuilt.load_state_dict(unet.state_dict())
    assert_close(rebuilt.eval()(x), y)


def test_maps_are_resized_to_the_input():
    layer = SequentialEx(nn.AvgPool2d(2), ResizeToOrig("bilinear"))
    x = torch.rand(1, 2, 7, 9)
    assert_close(layer(x), F.interpolate(F.avg_pool2d(x, 2), (7, 9), mode="bilinear"))


def test_two_threads_and_a_copy_do_not_disturb_each_other():
    unet = DynamicUnet(tiny_body(), 3, (32, 32)).eval()
    twin = copy.deepcopy(unet)
    images = [torch.rand(1, 3, 32 + i, 40) for i in range(8)]
    with torch.no_grad():
        wanted = [unet(x) for x in images]
        with ThreadPoolExecutor(4) as pool:
            assert_close(list(pool.map(torch.no_grad()(unet), images)), wanted)
        nn.init.zeros_(unet.layers[0][0].weight)
        assert_close([twin(x) for x in images], wanted)


# What does not work is said.


@pytest.mark.parametrize(
    ("arch", "size", "args", "problem"),
    [
        ("vit_tiny_patch16_224", 32, {}, "several sizes"),
        (models.vit_b_16, 224, {}, "no pooling layer"),
        (lambda pretrained=False: nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.ReLU()), 32, {"cut": 1}, "several sizes"),
        (models.densenet121, 16, {}, "does not give feature maps for images of 16×16"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2)), 32, {"cut": 2}, "outputs of shape"),
    ],
)
def test_bodies_without_maps_and_sizes_they_do_not_take_are_named(arch, size, args, problem):
    with weightless(), pytest.raises(BadValue, match=problem) as caught:
        create_unet_model(arch, 2, size, pretrained=False, **args)
    assert caught.value.fix


def test_a_transformer_with_maps_takes_images_smaller_than_its_patches():
    unet = create_unet_model("swin_tiny_patch4_window7_224", 2, 7, pretrained=False).eval()
    with torch.no_grad():
        assert unet(torch.zeros(1, 3, 7, 7)).shape == (1, 2, 7, 7)


def test_arguments_that_nobody_has_are_refused():
    for arch, args, near in [
        (resnet18, {"self_atention": True}, "self_attention"),
        ("resnet10t", {"blurr": 1}, "blur"),
    ]:
        with pytest.raises(BadArgument, match="unknown argument") as caught:
            create_unet_model(arch, 2, 32, pretrained=False, **args)
        assert near in caught.value.fix
    with pytest.raises(BadArgument, match="all feature maps"):
        create_unet_model("resnet10t", 2, 32, pretrained=False, cut=2)


# Learning.


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Photographs of scikit-learn with one or two cut-outs of the other pasted in: the mask says where, exactly."""
    from sklearn.datasets import load_sample_images

    folder = Path(tmp_path_factory.mktemp("pasted"))
    china, flower = (np.asarray(image) for image in load_sample_images().images)
    draw = np.random.default_rng(0)
    yy, xx = np.mgrid[:48, :64]
    for i in range(48):
        top, left = draw.integers(0, 427 - 48), draw.integers(0, 640 - 64)
        image, mask = china[top : top + 48, left : left + 64].copy(), np.zeros((48, 64), np.uint8)
        for _ in range(draw.integers(1, 3)):
            y, x, r = draw.uniform(10, 38), draw.uniform(10, 54), draw.uniform(6, 12)
            inside = (yy - y) ** 2 + (xx - x) ** 2 < r**2
            petals = flower[120:168, 220:284]
            image[inside], mask[inside] = petals[inside], 1
        Image.fromarray(image).save(folder / f"{i}.png")
        Image.fromarray(mask).save(folder / f"{i}_mask.png")
    return sorted((f for f in folder.iterdir() if "mask" not in f.name), key=lambda f: int(f.stem))


def masked(codes=("wall", "flower"), **args):
    block = DataBlock(
        (ImageBlock, MaskBlock(list(codes) if codes else None)), get_y=lambda f: f.with_name(f"{f.stem}_mask.png")
    )
    return lambda files, bs=8: block.dataloaders(files, bs=bs, num_workers=0, device="cpu", seed=1, **args)


def test_a_unet_learns_where_the_flowers_are(pictures, tmp_path):
    set_seed(0)
    dls = masked()(pictures, bs=4)
    learn = unet_learner(dls, tiny_net, pretrained=False, path=tmp_path, metrics=[JaccardCoeff(), DiceMulti()])
    assert learn.model.layers[-1][0].out_channels == 2
    learn.fine_tune(10, 5e-3)
    preds, targets = learn.get_preds()
    pixels = targets.flatten().numpy(), preds.argmax(1).flatten().numpy()  # of images that were held out, all at once
    assert list(learn.validate())[1:] == pytest.approx([jaccard_score(*pixels), f1_score(*pixels, average="macro")])
    found, wanted = preds.argmax(1) == 1, targets == 1
    overlap = (found & wanted).sum() / (found | wanted).sum()
    assert overlap > 0.6  # of the pixels of either; where nothing is learnt it is about 0.1
    file = dls.valid_ds.items[0]
    mask, classes, raw = learn.predict(file)
    assert isinstance(mask, TensorMask)
    assert mask.shape == classes.shape == (48, 64)
    assert raw.shape == (2, 48, 64)


def test_a_frozen_body_is_trained_first_without_and_then_with_it(pictures):
    dls = masked()(pictures[:10], bs=4)
    learn = unet_learner(dls, resnet18, weights=resnet18().state_dict())
    assert learn.opt.frozen_idx == 2
    assert len(learn.opt.param_lists[0]) == len(list(learn.model[0][:6].parameters()))
    before = learn.model[0][7][0].conv1.weight.clone()
    learn.fit(1)
    assert torch.equal(learn.model[0][7][0].conv1.weight, before)
    learn.unfreeze()
    learn.fit(1)
    assert not torch.equal(learn.model[0][7][0].conv1.weight, before)
    assert len(dls.train.after_batch) == 2  # to floats, and normalised as the weights' images were


@pytest.mark.parametrize("arch", [resnet18, "resnet10t", "convnext_atto"], ids=str)
def test_any_unet_comes_back_from_its_file(pictures, arch, tmp_path):
    learn = unet_learner(
        masked()(pictures[:16]), arch, pretrained=False, path=tmp_path, self_attention=True, act_cls=nn.SiLU, blur=True
    )
    rebuilt = load_learner(learn.export("model"))
    assert repr(rebuilt.model) == repr(learn.model)
    assert_close(rebuilt.predict(pictures[0])[2], learn.predict(pictures[0])[2])


def test_the_number_of_outputs_is_that_of_the_codes_or_has_to_be_given(pictures):
    learn = unet_learner(masked(("a", "b", "c"))(pictures[:16]), tiny_net, pretrained=False)
    assert learn.model.layers[-1][0].out_channels == 3
    with pytest.raises(BadValue, match="how many outputs") as caught:
        unet_learner(masked(None)(pictures[:16]), tiny_net, pretrained=False)
    assert "MaskBlock(codes)" in caught.value.fix
    labels = DataBlock((ImageBlock, CategoryBlock), get_y=lambda f: int(f.stem) % 2).dataloaders(
        pictures, bs=8, num_workers=0
    )
    with pytest.raises(BadValue, match="one for each image") as caught:
        unet_learner(labels, tiny_net, pretrained=False)
    assert "vision_learner(" in caught.value.fix


def test_an_image_from_an_image_in_grey(pictures):
    block = DataBlock((ImageBlock(PILImageBW), ImageBlock(PILImage)))
    dls = block.dataloaders(pictures[:16], bs=4, num_workers=0, device="cpu")
    learn = unet_learner(
        dls, tiny_net, pretrained=False, n_in=1, n_out=3, y_range=(0, 1), loss_func=MSELossFlat(), opt_func=Adam
    )
    learn.fit(1)
    assert learn.get_preds()[0].shape == (len(dls.valid_ds), 3, 48, 64)


def test_the_blocks_of_the_body_have_groups_of_their_own_in_a_unet_too(pictures):
    dls = masked()(pictures[:16])
    for arch, blocks in [(resnet18, 9), ("convnext_atto", 13)]:
        learn = unet_learner(dls, arch, pretrained=False, splitter=block_groups)
        groups = block_groups(learn.model)
        assert len(groups) == blocks + 1
        assert sum(len(group) for group in groups) == len(list(learn.model.parameters()))
        in_body = {id(p) for p in learn.model[0].parameters()}
        assert not in_body & set(map(id, groups[-1]))


def test_arguments_as_older_scripts_give_them(pictures):
    dls = masked()(pictures[:16])
    learn = unet_learner(dls, tiny_net, pretrained=False, config={"self_attention": True})
    assert any(isinstance(m, SelfAttention) for m in learn.model.modules())
    assert not any(isinstance(m, PooledSelfAttention2d) for m in learn.model.modules())
    with pytest.raises(BadArgument, match="unet_learner got an unknown argument 'self_atention'") as caught:
        unet_learner(dls, tiny_net, pretrained=False, self_atention=True)
    assert "self_attention" in caught.value.fix

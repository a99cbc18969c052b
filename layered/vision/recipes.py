"""Image models as data for an export: which architecture, which arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from layered.foundation import BadFile, NotExportable, builders, modules, names_of, refuse_unknown, unknown_name
from layered.nn import describe_module, num_features_model, rebuild_module
from layered.vision.models.backbones import Arch, find_arch, image_models, is_torchvision, torchvision_models
from layered.vision.models.create import create_unet_model, create_vision_model
from layered.vision.models.detectors import Detector, PyramidBody, create_detector, detector_names
from layered.vision.models.unet import DynamicUnet


def transfer_recipe(
    arch: Arch, model_args: dict[str, Any], arch_args: dict[str, Any], body: nn.Module
) -> dict[str, Any] | None:
    """The model as data for an export; None if rebuilding it would take code without a registered name.

    Args:
        arch: The architecture: a function that builds a model, or a timm name.
        model_args: Arguments of `create_vision_model`.
        arch_args: Those for timm's architecture.
        body: The model's body.
    """
    args = _described_arch(arch, {**model_args, "arch_args": arch_args})
    if args is None:
        return None
    head = args.pop("custom_head")
    if head is not None:
        try:
            args["custom_head"] = describe_module(head)
        except NotExportable:
            return None
    elif not isinstance(arch, str):
        args["features"] = num_features_model(body)  # so that loading need not run it
    elif args["cut"] is not None:
        args["features"] = body.num_features
    return {"builder": "vision.model", "args": args}


def unet_recipe(arch: Arch, model_args: dict[str, Any], model: DynamicUnet) -> dict[str, Any] | None:
    """A U-Net as data for an export; None if rebuilding it would take code without a registered name.

    Args:
        arch: The architecture of its body: a function that builds a model, or a timm name.
        model_args: Arguments of `create_unet_model`.
        model: The model.
    """
    args = {**model_args, "levels": model.levels}
    arch_args = {name: args.pop(name) for name in model_args.keys() - names_of(create_unet_model)}
    args.pop("init", None)
    act = modules.name_of(args.pop("act_cls", nn.ReLU))
    described = _described_arch(arch, {**args, "arch_args": arch_args})
    return None if described is None or act is None else {"builder": "vision.unet", "args": {**described, "act": act}}


def detector_recipe(
    arch: Arch, model_args: dict[str, Any], arch_args: dict[str, Any], model: Detector
) -> dict[str, Any] | None:
    """A detector as data for an export; None if rebuilding it would take code without a registered name.

    Args:
        arch: Its architecture: a function that builds a model, or a timm name.
        model_args: Arguments of `create_detector`.
        arch_args: Those of the architecture.
        model: The model.
    """
    described = _described_arch(arch, {"cut": None, "arch_args": arch_args})
    if described is None:
        return None
    body = model.detector.get_submodule("backbone")
    levels = {"levels": [list(level) for level in body.levels]} if isinstance(body, PyramidBody) else {}
    args = {**described, **model_args, **levels, "fixed_norms": model.fixed_norms}
    del args["cut"]
    return {"builder": "vision.detector", "args": args}


def _described_arch(arch: Arch, args: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments with the name of the architecture and where it comes from; None if a file cannot name them."""
    name = arch if isinstance(arch, str) else arch.__name__ if is_torchvision(arch) else builders.name_of(arch)
    where = "timm" if isinstance(arch, str) else "torchvision" if is_torchvision(arch) else "registered"
    if name is None or callable(args["cut"]) or any(map(callable, args["arch_args"].values())):
        return None
    if where == "torchvision" and name not in (*image_models(), *detector_names()):
        return None
    plain = {k: list(v) if isinstance(v, (tuple, list)) else v for k, v in args.items() if k != "arch_args" or v}
    return {"source": where, "arch": name, **plain}


def _find(source: str, arch: str, *, detects: bool = False) -> Arch:
    """The architecture that a file names."""
    known = [*image_models(), *(detector_names() if detects else ())]
    if source == "torchvision" and arch not in known:
        raise unknown_name("torchvision model of images", arch, known)
    find: dict[str, Callable[[str], Any]] = {
        "registered": builders.get,
        "torchvision": torchvision_models.get_model_builder,
        "timm": find_arch,
    }
    found: Arch = find[source](arch)
    return found


def _of_arch(arch_args: Mapping[str, Any] | None, build: Callable[..., Any]) -> dict[str, Any]:
    """What a file passes on to an architecture: nothing that `build` takes itself, as `weights`, which reads and downloads."""
    given = dict(arch_args or {})
    for name in given.keys() & names_of(build):
        raise BadFile(
            f"the recipe of a model gives '{name}' to its architecture", expected="arguments of the architecture"
        )
    return given


MODEL_ARGS = names_of(create_vision_model) - {"arch", "pretrained", "weights", "init"}
DETECTOR_ARGS = names_of(create_detector) - {"arch", "pretrained", "weights"}
UNET_ARGS = names_of(create_unet_model) - {"arch", "pretrained", "weights", "init", "act_cls"}


@builders.register("vision.model")
def build_from_recipe(
    source: str,
    arch: str,
    arch_args: Mapping[str, Any] | None = None,
    custom_head: dict[str, Any] | None = None,
    **model_args: Any,
) -> nn.Sequential:
    """The untrained model of a recipe. Names are looked up; nothing is downloaded or read.

    Args:
        source: Where the name comes from: "torchvision", "timm" or "registered".
        arch: Name of the architecture.
        arch_args: Arguments of timm's architecture.
        custom_head: The head in place of the usual one, as `describe_module` describes it.
        model_args: Arguments of `create_vision_model`.
    """
    refuse_unknown(model_args, MODEL_ARGS, "the recipe of an image model")
    head = None if custom_head is None else rebuild_module(custom_head)
    return create_vision_model(
        _find(source, arch), pretrained=False, init=None, custom_head=head, **model_args,
        **_of_arch(arch_args, create_vision_model),
    )  # fmt: skip


@builders.register("vision.unet")
def build_unet(
    source: str, arch: str, act: str, arch_args: Mapping[str, Any] | None = None, **model_args: Any
) -> DynamicUnet:
    """The untrained U-Net of a recipe. Names are looked up; nothing is downloaded, read or run.

    Args:
        source: Where the name comes from: "torchvision", "timm" or "registered".
        arch: Name of the architecture of the body.
        act: The registered name of the activation's class.
        arch_args: Arguments of timm's architecture.
        model_args: Arguments of `create_unet_model`.
    """
    refuse_unknown(model_args, UNET_ARGS, "the recipe of a U-Net")
    found, act_cls = _find(source, arch), modules.get(act)
    more = _of_arch(arch_args, create_unet_model)
    return create_unet_model(found, pretrained=False, init=None, act_cls=act_cls, **model_args, **more)


@builders.register("vision.detector")
def build_detector(source: str, arch: str, arch_args: Mapping[str, Any] | None = None, **model_args: Any) -> Detector:
    """The untrained detector of a recipe. Names are looked up; nothing is downloaded or read.

    Args:
        source: Where the name comes from: "torchvision", "timm" or "registered".
        arch: Name of the architecture.
        arch_args: Arguments of the detector, or of timm's architecture.
        model_args: Arguments of `create_detector`.
    """
    refuse_unknown(model_args, DETECTOR_ARGS, "the recipe of a detector")
    more = _of_arch(arch_args, create_detector)
    return create_detector(_find(source, arch, detects=True), pretrained=False, **model_args, **more)

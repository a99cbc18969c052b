"""Bodies of image models: which architectures exist, where they are cut, how their parameters are grouped."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

from torch import Tensor, nn

from layered.catalog import hub_file, is_offline
from layered.files import read_weights, state_dict_of
from layered.foundation import (
    BadArgument,
    CannotRestore,
    L,
    MissingDependency,
    Offline,
    function_name,
    lazy,
    unknown_name,
)
from layered.integrations import is_timm_model, timm_names
from layered.nn import adapt_first_layer, body_weights, cut_model, report_left_out
from layered.optim import params
from layered.vision.item_transforms import imagenet_stats

torchvision_models = lazy("torchvision.models")

Arch = Callable[..., nn.Module] | str
"""A function that builds a model, or a name."""

LocalWeights = str | os.PathLike[str] | Mapping[str, Any]
Weights = LocalWeights | Enum | None
"""A torchvision name or entry of weights, a local file, or a state dict."""

Cut = int | Callable[[nn.Module], nn.Module] | None
Splitter = Callable[[nn.Module], Any]
Stats = tuple[Sequence[float], Sequence[float]]  # mean and standard deviation of each channel


def default_split(m: Any) -> L:
    """Two groups of parameters: body and head.

    Args:
        m: `Sequential(body, head)`.
    """
    return L([params(m[0]), params(m[1:])], use_list=True)


def _resnet_split(m: Any) -> L:
    return L([params(m[0][:6]), params(m[0][6:]), params(m[1:])], use_list=True)


def _features_split(at: int) -> Splitter:
    """Three groups: the children of the body's `features` before `at`, those from `at` on, and the head."""
    return lambda m: L([params(m[0][0][:at]), params(m[0][0][at:]), params(m[1:])], use_list=True)  # type: ignore[index]


def _inception_cut(m: nn.Module) -> nn.Module:
    """The main path, without the auxiliary classifiers that only help training."""
    return cut_model(nn.Sequential(*(o for name, o in m.named_children() if not name.lower().startswith("aux"))))


def _maxvit_cut(m: Any) -> nn.Module:
    return nn.Sequential(m.stem, *m.blocks)


FAMILIES: dict[str, tuple[Cut, Splitter]] = {
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), (-2, _resnet_split)),
    **dict.fromkeys(("squeezenet1_0", "squeezenet1_1"), (-1, _features_split(5))),
    **dict.fromkeys(("densenet121", "densenet161", "densenet169", "densenet201"), (-1, _features_split(7))),
    **dict.fromkeys(("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"), (-2, _features_split(22))),
    "alexnet": (-2, _features_split(6)),
    **dict.fromkeys(("mobilenet_v2", "mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"), (-1, default_split)),
    **dict.fromkeys((f"shufflenet_v2_x{width}" for width in ("0_5", "1_0", "1_5", "2_0")), (-1, default_split)),
    **dict.fromkeys(("googlenet", "inception_v3"), (_inception_cut, default_split)),
    "maxvit_t": (_maxvit_cut, default_split),
}


class _ModelMeta(dict[Any, dict[str, Any]]):
    """What is known of an architecture, by the function that builds it; unknown ones are cut before their last pooling."""

    def __missing__(self, arch: Any) -> dict[str, Any]:
        known = is_torchvision(arch)
        cut, split = FAMILIES.get(arch.__name__, (None, default_split)) if known else (None, default_split)
        return {"cut": cut, "split": split, "stats": imagenet_stats if known else None}


model_meta = _ModelMeta()
"""By architecture: where it is cut, how it is split, and the statistics of its training images: `model_meta[resnet50]["cut"]`."""


def is_torchvision(arch: object) -> bool:
    """Whether `arch` is one of torchvision's functions that build models.

    Args:
        arch: Anything.
    """
    return (getattr(arch, "__module__", None) or "").startswith("torchvision.models.")


def find_arch(arch: Any) -> Any:
    """Look up an architecture: a function is returned as it is; a name is timm's, or torchvision's if timm does not know it.

    Args:
        arch: A function that builds a model, or a name.

    Raises:
        UnknownName: With the nearest names.
        MissingDependency: For a name that only timm may know, if timm is not installed.
        BadArgument: If it is neither a function nor a name.
    """
    if isinstance(arch, nn.Module) or not (callable(arch) or isinstance(arch, str)):
        raise BadArgument(
            "arch must be a function that builds a model, or a name",
            got=f"a model: {type(arch).__name__}" if isinstance(arch, nn.Module) else repr(arch),
            fix="pass for example resnet18; for your own model use Learner(dls, model)",
        )
    if callable(arch):
        return arch
    known = image_models()
    try:
        if is_timm_model(arch):
            return arch
    except MissingDependency:
        if arch not in known:
            raise
    if arch in known:
        return torchvision_models.get_model_builder(arch)
    raise unknown_name("architecture", arch, {*timm_names(), *known})


def image_models() -> list[str]:
    """Names of torchvision's classification models. (Those for other tasks download weights for their backbones.)"""
    return list(torchvision_models.list_models(module=torchvision_models))


def build_arch(
    arch: Callable[..., nn.Module], pretrained: bool = False, weights: str | Enum | None = None
) -> nn.Module:
    """Build a model.

    Args:
        arch: A function that builds it.
        pretrained: Whether it has trained weights.
        weights: Which: a torchvision name ("DEFAULT") or entry.

    Raises:
        Offline: If weights cannot be downloaded.
        UnknownName: If torchvision has no such weights.
    """
    takes = inspect.signature(arch).parameters
    if weights is None and not pretrained:
        untrained = {"weights": None, "weights_backbone": None, "pretrained": False}
        return arch(**{name: value for name, value in untrained.items() if name in takes})
    name = function_name(arch)
    if is_torchvision(arch) and "weights" in takes and (isinstance(weights, str) or is_offline()):
        known = torchvision_models.get_model_weights(arch).__members__
        if isinstance(weights, str) and weights not in known:
            raise unknown_name(f"set of weights for {name}", weights, known, fix="or the path of a file")
        _refuse_download(name, known.get(weights or "DEFAULT", weights))
    try:
        if "weights" in takes:
            return arch(weights=weights if weights is not None else "DEFAULT")
        if "pretrained" in takes:
            return arch(pretrained=True)
    except OSError as error:
        raise _no_weights(name, f"{type(error).__name__}: {error}") from error
    raise BadArgument(
        f"{name} cannot build a model with trained weights",
        got=f"it takes {', '.join(takes) or 'no arguments'}",
        fix="pass pretrained=False, or a file or state dict as weights=",
    )


def _no_weights(name: str, reason: str) -> Offline:
    fix = "pass weights='a/local/file.pth', or pretrained=False"
    return Offline(f"the weights of {name} could not be downloaded", got=reason, fix=fix)


def _refuse_download(name: str, weights: Any) -> None:
    """Raise Offline if LAYERED_OFFLINE is set and these torchvision weights are not on this machine."""
    url = getattr(weights, "url", None)
    if url is not None and is_offline() and not os.path.isfile(file := hub_file(url)):
        raise _no_weights(name, f"LAYERED_OFFLINE is set, and '{file}' does not exist")


def trained_weights(arch: Callable[..., nn.Module], weights: str | Enum | None = None) -> Mapping[str, Tensor]:
    """The state dict of trained weights of torchvision.

    Args:
        arch: A function of torchvision that builds a model.
        weights: Which: a torchvision name or entry; by default the newest of the architecture.

    Raises:
        Offline: If they cannot be downloaded.
        UnknownName: If torchvision has no such weights.
    """
    name = function_name(arch)
    entry: Any = weights
    if weights is None or isinstance(weights, str):
        known = torchvision_models.get_model_weights(arch).__members__ if is_torchvision(arch) else {}
        entry = known.get(weights or "DEFAULT")
        if entry is None:
            raise unknown_name(f"set of weights for {name}", weights or "DEFAULT", known, fix="or the path of a file")
    _refuse_download(name, entry)
    try:
        found: Mapping[str, Tensor] = entry.get_state_dict(check_hash=True)
        return found
    except OSError as error:
        raise _no_weights(name, f"{type(error).__name__}: {error}") from error


def local_or_named(weights: Weights) -> tuple[LocalWeights | None, str | Enum | None]:
    """The weights as a file or state dict, or else as torchvision's.

    Args:
        weights: A torchvision name or entry, a local file, or a state dict.
    """
    if weights is None or isinstance(weights, Enum):
        return None, weights
    if isinstance(weights, (Mapping, os.PathLike)):
        return weights, None
    is_path = os.path.exists(weights) or os.path.splitext(weights)[1] != "" or os.sep in weights
    return (weights, None) if is_path else (None, weights)


def create_body(
    model: nn.Module | Callable[..., nn.Module],
    n_in: int = 3,
    pretrained: bool = True,
    cut: Cut = None,
    *,
    weights: Weights = None,
) -> nn.Module:
    """The body of a model: everything before its last pooling.

    Args:
        model: A model, or a function that builds one (`create_body(resnet34, cut=-2)`).
        n_in: Channels of the images.
        pretrained: Whether it has trained weights.
        cut: Number of children to keep, or a function of the model; by default those before the last child that pools.
        weights: Which: a torchvision name or entry, a local file, or a state dict. Only what is cut off may be missing or
            have another shape, such as the classifier of other classes.

    Raises:
        BadArgument: If `weights` names torchvision's, and `model` is built already.
        BadValue: If nothing is left, or the model cannot be cut.
        CannotRestore: If local weights do not fit the body.

    Examples:
        >>> from torchvision.models import resnet18
        >>> [type(part).__name__ for part in create_body(resnet18, pretrained=False)][:5]
        ['Conv2d', 'BatchNorm2d', 'ReLU', 'MaxPool2d', 'Sequential']
    """
    local, named = local_or_named(weights)
    if not isinstance(model, nn.Module):
        model = build_arch(model, pretrained and local is None, named)
    elif named is not None:
        raise BadArgument(
            "weights= names trained weights, but the model is built already",
            got=named,
            fix="pass the function, not the model",
        )
    state = None if local is None else state_dict_of(local if isinstance(local, Mapping) else read_weights(local))
    unfit = [] if state is None else load_fitting(model, state)
    if n_in != 3:
        model = adapt_first_layer(model, n_in, pretrained or weights is not None)
    body = cut_model(model, cut)
    if state is not None and not (unfit and _load_learners_body(body, state)):
        check_loaded(model, body, unfit, state)
    return body


def _load_learners_body(body: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Load the weights of a learner's model, `Sequential(body, head)`; False if they are none, or those of another body."""
    found, needed = body_weights(state), body.state_dict()
    if {k: v.shape for k, v in found.items()} != {k: v.shape for k, v in needed.items()}:
        return False
    body.load_state_dict(found)
    return True


def load_fitting(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Load the weights that fit; returns the names of the model's tensors that there are none for.

    Args:
        model: The model.
        state: Weights by name.
    """
    needed = model.state_dict()
    fitting = {k: state[k] for k, v in needed.items() if k in state and state[k].shape == v.shape}
    model.load_state_dict(fitting, strict=False)
    return [k for k in needed if k not in fitting]


def check_loaded(model: nn.Module, body: nn.Module, unfit: list[str], state: Mapping[str, Tensor]) -> None:
    """Refuse weights that lack tensors of the body; warn of those that were left out.

    Args:
        model: The model, loaded.
        body: The part of it that needs all its weights.
        unfit: The names of the model's tensors that there were no weights for.
        state: The weights by name.
    """
    tensors = model.state_dict(keep_vars=True)
    kept = {id(t) for t in body.state_dict(keep_vars=True).values()}
    shared = {k for k, t in tensors.items() if id(t) in kept}
    wrong = [k for k in unfit if k in shared or len(shared) < len(kept)]  # a body of copies may hold any of them
    if wrong:
        raise CannotRestore(
            f"the weights do not fit {type(model).__name__}",
            got=f"{len(wrong)} of {len(tensors)} tensors are missing or differ in shape, first '{wrong[0]}'",
            expected=f"{tuple(tensors[wrong[0]].shape)}",
            fix="use weights of exactly this architecture",
        )
    report_left_out(type(model).__name__, {k: v for k, v in state.items() if k in unfit or k not in tensors})

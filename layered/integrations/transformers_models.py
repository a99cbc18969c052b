"""Models of transformers: opened from a folder or the hub, described as data, and built from such data.

Nothing that a file names is imported or run: a configuration chooses among the text models of the installed package.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from layered.catalog import is_offline
from layered.files import parse_json, read_whole
from layered.foundation import (
    BadArgument,
    BadFile,
    BadValue,
    CannotRestore,
    LayeredError,
    NotFoundPath,
    Path,
    UnsafeFile,
    describe,
    names_of,
    one_line,
    require,
    unknown_name,
    warn,
)

_WHY = "a model of Hugging Face"
_MODEL_FILES = (
    "config.json",
    "*.safetensors",
    "model.safetensors.index.json",
    "1_Pooling/config.json",
    "tokenizer.json",
)
_RUNS_CODE = ("auto_map", "quantization_config")  # and any name that chooses an implementation, which may be on the hub
_COUNTS = re.compile(r"n(um)?_.*(layer|label|block|expert)")  # of which a configuration makes a list
_MOST, _MOST_LABELS, _FEW = 1_000, 10_000, 100
_OF_OTHER_MACHINES = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", *_RUNS_CODE)
_COUNT_BEHIND_PADDING = {  # whose positions begin behind the index of the padding
    "camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta",
    "xlm-roberta-xl", "xmod",
}  # fmt: skip


class Transformer(NamedTuple):
    """A model of transformers.

    Attributes:
        model: Without a head, or with that of a language model.
        is_decoder: It goes on with texts: each token sees only those before it.
        pool: How its folder says that a text's tokens make its vector: "mean", "first", or None.
        name: Where it is from, for messages.
        folder: Its folder, if it was read from one.
    """

    model: nn.Module
    is_decoder: bool
    pool: str | None
    name: str
    folder: Path | None


def hub_folder(name: str, files: Sequence[str], what: str) -> Path:
    """The folder in which some files of a repository of the hub are kept; they are downloaded unless the library is offline.

    Args:
        name: The name on the hub.
        files: Patterns of the files.
        what: What they are for, for the message: "tokenizer".

    Raises:
        NotFoundPath: The hub has no such repository, or it cannot be reached.
    """
    hub = require("huggingface_hub", extra="hf", why=f"a {what} from the hub")
    try:
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
            raise ValueError("not a name on the hub")
        return Path(hub.snapshot_download(name, allow_patterns=list(files), local_files_only=is_offline()))
    except (OSError, ValueError) as error:
        raise NotFoundPath(
            f"there is no {what} '{name}'",
            got=f"no such folder, and the hub says: {one_line(str(error)):.200}",
            expected="a folder, or a name on the hub",
            fix=f"check the name; the working directory is {Path.cwd()}",
        ) from error


def open_transformer(
    source: Any, for_lm: bool, pretrained: bool = True, changes: Mapping[str, Any] | None = None
) -> Transformer:
    """A model from its folder, by its name on the hub, or a model of transformers as it is.

    Args:
        source: The folder, the name or the model.
        for_lm: With the head of a language model; by False, without any head.
        pretrained: Read the weights; by False they are drawn at random.
        changes: Settings that differ from those of its config.json.

    Raises:
        MissingDependency: The package is not installed.
        NotFoundPath: There is no such model.
        UnknownName: The package has no text model of this kind.
        UnsafeFile: It would run code of its own, or its weights are not safetensors.
        BadFile: A file is damaged.
        CannotRestore: The weights do not fit the configuration.
    """
    transformers = require("transformers", extra="hf", why=_WHY)
    if isinstance(source, nn.Module):
        return _given(transformers, source, for_lm)
    folder = Path(source).expanduser()
    if not folder.is_dir():
        folder = hub_folder(os.fspath(source), _MODEL_FILES, "model")
    config = transformer_config({**_config_of(folder), **(changes or {})}, f"'{folder / 'config.json'}'")
    is_decoder = _is_decoder(transformers, config)
    if for_lm and not is_decoder:
        raise _no_language_model(config.model_type)
    model = _loaded(transformers, folder, config, for_lm) if pretrained else build_transformer(config, for_lm)
    return Transformer(_prepared(model), is_decoder, _pooling_of(folder), os.fspath(source), Path(folder))


def _given(transformers: Any, model: nn.Module, for_lm: bool) -> Transformer:
    """What a user has opened or made."""
    if not isinstance(model, transformers.PreTrainedModel):
        raise BadArgument(
            "this is not a model of transformers",
            got=describe(model),
            expected="AWD_LSTM, a folder, a name on the hub, or a model of transformers",
        )
    config: Any = model.config
    _check_kind(config.to_dict(), "the model")
    is_decoder = _is_decoder(transformers, config)
    if for_lm and (not is_decoder or model.get_output_embeddings() is None):
        raise _no_language_model(type(model).__name__)
    whole: nn.Module = model if for_lm else model.base_model
    if whole is not model and not for_lm:
        warn(f"the head of {type(model).__name__} is left out: the learner has a new one")
    return Transformer(_prepared(whole), is_decoder, None, type(model).__name__, None)


def _no_language_model(name: str) -> BadValue:
    return BadValue(
        "this model does not go on with texts",
        got=name,
        expected="a decoder with the head of a language model, such as GPT-2 or Llama",
        fix="AutoModelForCausalLM.from_pretrained(folder) of a decoder, or its folder; text_classifier_learner takes any",
    )


def _config_of(folder: Path) -> dict[str, Any]:
    """What a model's folder says of it, without the code that it offers."""
    if (folder / "adapter_config.json").is_file():
        raise BadFile(
            f"'{folder}' holds an adapter of peft, which is for another model",
            fix="merge it where it was made: merge_and_unload() and save_pretrained(folder)",
        )
    data = parse_json(read_whole(folder / "config.json"), f"'{folder / 'config.json'}'")
    if not isinstance(data, dict):
        raise BadFile(f"'{folder / 'config.json'}' does not describe a model", got=describe(data))
    data.pop("auto_map", None)  # the package's own class is used, if it has one
    return data


def transformer_config(data: Mapping[str, Any], where: str = "the file") -> Any:
    """The configuration of a text model from data that may come from anyone.

    Args:
        data: What a config.json holds.
        where: What holds it, for messages.

    Raises:
        UnknownName: The installed transformers have no text model of this type.
        UnsafeFile: It asks for code.
        BadFile: Its values are not those of a configuration.
        BadValue: It would have too many parts.
    """
    transformers = require("transformers", extra="hf", why=_WHY)
    _check_kind(data, where)
    _refuse_code(data, where)
    _refuse_many(data, where)
    settings = {name: value for name, value in data.items() if name not in _OF_OTHER_MACHINES and name != "model_type"}
    try:
        with _quiet(transformers):
            return transformers.AutoConfig.for_model(data["model_type"], **settings)
    except Exception as error:  # whatever comes of values from anywhere
        raise BadFile(f"{where} does not describe a model", got=f"{error!s:.200}") from error


def _check_kind(data: Mapping[str, Any], where: str) -> None:
    known, name = _text_models(), data.get("model_type")
    if name not in known:
        raise unknown_name(
            "text model", str(name), known, fix=f"install a version of transformers that knows it; {where}"
        )
    if data.get("is_encoder_decoder"):
        raise BadValue(
            "a model of two parts, from text to text, is neither an encoder nor a decoder",
            got=str(name),
            expected="an encoder such as BERT, or a decoder such as GPT-2",
        )


def _text_models() -> set[str]:
    names: Any = require("transformers.models.auto.modeling_auto", extra="hf", why=_WHY)
    return {*names.MODEL_FOR_MASKED_LM_MAPPING_NAMES, *names.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}


def _refuse_code(data: object, where: str) -> None:
    for name, value in data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, list) else ():
        if value is not None and (name in _RUNS_CODE or "_implementation" in str(name)):
            raise UnsafeFile(
                f"{where} asks for code beside the installed packages",
                got=f"{name}: {value!r:.100}",
                expected="the settings of a model that transformers has itself",
            )
        _refuse_code(value, where)


def _refuse_many(data: object, where: str, most: int = _MOST) -> None:
    for name, value in data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, list) else ():
        counted = _COUNTS.match(str(name)) if isinstance(value, (int, float)) else None
        allowed = _MOST_LABELS if counted and counted[2] == "label" else most
        if counted and value > allowed:
            raise BadValue(
                f"{where} describes a model of too many parts", got=f"{name}: {value}", expected=f"at most {allowed}"
            )
        _refuse_many(value, where, most)


def _is_decoder(transformers: Any, config: Any) -> bool:
    return type(config) not in transformers.MODEL_FOR_MASKED_LM_MAPPING or bool(getattr(config, "is_decoder", False))


def build_transformer(config: Any, for_lm: bool) -> nn.Module:
    """The untrained model of a configuration.

    Args:
        config: What `transformer_config` gives.
        for_lm: With the head of a language model.

    Raises:
        BadFile: There is no such model.
    """
    transformers = require("transformers", extra="hf", why=_WHY)
    kind = transformers.AutoModelForCausalLM if for_lm else transformers.AutoModel
    try:
        with _quiet(transformers):
            model: nn.Module = kind.from_config(config, trust_remote_code=False, dtype=torch.float32)
    except LayeredError:  # the bounds of a file
        raise
    except Exception as error:
        raise BadFile("the configuration does not make a model", got=f"{error!s:.200}") from error
    return _prepared(model)


def _loaded(transformers: Any, folder: Path, config: Any, for_lm: bool) -> nn.Module:
    """The model of a folder, with all of its weights."""
    if not any(folder.glob("*.safetensors")):
        raise UnsafeFile(
            f"'{folder}' holds no weights as safetensors",
            got=", ".join(sorted(path.name for path in folder.glob("*.bin"))) or "no weights",
            expected="model.safetensors, which holds numbers and no code",
            fix="convert it where it is trusted: AutoModel.from_pretrained(folder).save_pretrained(new_folder)",
        )
    _check_size(folder, config, for_lm)
    kind = transformers.AutoModelForCausalLM if for_lm else transformers.AutoModel
    try:
        with _quiet(transformers):
            model, report = kind.from_pretrained(
                os.fspath(folder), config=config, use_safetensors=True, trust_remote_code=False, local_files_only=True,
                dtype=torch.float32, output_loading_info=True,
            )  # fmt: skip
    except Exception as error:  # of transformers or safetensors, about files from anywhere
        raise CannotRestore(
            f"the weights in '{folder}' do not fit its config.json or are damaged", got=one_line(f"{error!s:.300}")
        ) from error
    missing = sorted(name for name in report["missing_keys"] if "pooler." not in name)
    if missing:
        raise CannotRestore(
            f"'{folder}' lacks weights of {type(model).__name__}",
            got=f"{len(missing)} missing: {', '.join(missing[:5])}",
            expected="all weights of the model",
            fix="another folder; pretrained=False draws all of them at random",
        )
    loaded: nn.Module = model
    return loaded


def _check_size(folder: Path, config: Any, for_lm: bool) -> None:
    """Refuse a configuration of a much larger model than the weights are of, before it takes time and memory."""
    safetensors: Any = require("safetensors", extra="hf", why=_WHY)
    sizes = list[int]()
    try:
        for path in folder.glob("*.safetensors"):
            with safetensors.safe_open(os.fspath(path), "pt") as file:
                sizes += [math.prod(file.get_slice(name).get_shape()) for name in file.keys()]  # noqa: SIM118  # not a mapping
    except safetensors.SafetensorError as error:
        raise CannotRestore(f"the weights in '{folder}' are damaged", got=one_line(f"{error!s:.300}")) from error
    _refuse_many(config.to_dict(), f"'{folder / 'config.json'}'", max(len(sizes), _FEW))
    with torch.device("meta"):
        wanted = sum(p.numel() for p in build_transformer(config, for_lm).parameters())
    if wanted > 2 * sum(sizes):  # a few that are missing are named when the others are read
        raise CannotRestore(
            f"the weights in '{folder}' do not fit its config.json",
            got=f"{sum(sizes)} numbers",
            expected=f"{wanted}, for the model that it describes",
            fix="the config.json that belongs to the weights; pretrained=False draws all of them at random",
        )


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Context manager: what transformers says of heads that are left out, and its bar, do not show."""
    log = transformers.utils.logging
    before, has_bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(before)
        if has_bar:
            log.enable_progress_bar()


def _prepared(model: nn.Module) -> nn.Module:
    """The model as it is called here: without the layer behind its first token that some have, which a new head would leave
    untrained.

    Args:
        model: A model of transformers.

    Raises:
        BadValue: It does not read tokens beside a mask of padding.
    """
    if not {"input_ids", "attention_mask"} <= names_of(type(model).forward):
        raise BadValue(
            "this model does not take tokens and a mask of padding",
            got=f"{type(model).__name__}.forward({', '.join(sorted(names_of(type(model).forward)))})",
            expected="input_ids and attention_mask",
            fix="another architecture, such as BERT or GPT-2",
        )
    if isinstance(getattr(model, "pooler", None), nn.Module):
        model.pooler = None  # type: ignore[assignment]  # which these models ask for
    return model


def _pooling_of(folder: Path) -> str | None:
    """How the tokens of a text make its vector, where the folder says so as sentence-transformers do."""
    data = parse_json(read_whole(folder / "1_Pooling" / "config.json", missing_ok=True) or b"{}", "the pooling")
    chosen = {"mean": "pooling_mode_mean_tokens", "first": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}
    return next((pool for pool, name in chosen.items() if isinstance(data, dict) and data.get(name) is True), None)


def described_config(model: nn.Module) -> dict[str, Any]:
    """The configuration of a model as data, without what is only of this machine.

    Args:
        model: A model of transformers.
    """
    config: Any = model.config
    return {name: value for name, value in config.to_dict().items() if name not in _OF_OTHER_MACHINES}


def embedding_rows(model: nn.Module) -> int:
    """How many tokens a model has vectors for.

    Args:
        model: A model of transformers.
    """
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]  # transformers' own method
    rows: int = embedding.weight.shape[0]
    return rows


def hidden_size(model: nn.Module) -> int:
    """The length of the vector that a model gives for a token.

    Args:
        model: A model of transformers.
    """
    size: int = model.config.hidden_size  # type: ignore[union-attr,assignment]  # each configuration has it under this name
    return size


def position_limit(config: Mapping[str, Any]) -> int | None:
    """The most tokens that a model reads; None if its configuration does not say.

    Args:
        config: What a config.json holds.

    Examples:
        >>> position_limit({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1})
        512
    """
    most = config.get("max_position_embeddings", config.get("n_positions"))
    if not isinstance(most, int) or most < 1:
        return None
    pad = config.get("pad_token_id", 1)
    return most - pad - 1 if config.get("model_type") in _COUNT_BEHIND_PADDING and isinstance(pad, int) else most


def transformer_groups(model: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of a model in groups: the embeddings, each block, and what stands behind the last with it.

    Args:
        model: A model of transformers.
    """
    lists = [part for part in model.modules() if isinstance(part, nn.ModuleList)]
    blocks = max(lists, key=lambda part: sum(p.numel() for p in part.parameters()), default=nn.ModuleList())
    numbers = {p: i for i, block in enumerate(blocks, 1) for p in block.parameters()}
    groups: list[list[nn.Parameter]] = [[] for _ in range(len(blocks) + 1)]
    current = 0
    for p in model.parameters():
        current = numbers.get(p, len(blocks) if current else 0)
        groups[current].append(p)
    return [group for group in groups if group]

"""Models of Hugging Face for the learners: opened, compared with the texts of the loaders, and described for an export."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard

from torch import nn

from layered.data import as_loaders
from layered.foundation import BadArgument, BadValue, StrPath
from layered.integrations import Transformer, described_config, embedding_rows, open_transformer, position_limit
from layered.text.column import TextColumn
from layered.text.hf_tokenizers import HuggingFaceTokenizer
from layered.text.lm_loader import LMDataLoader
from layered.text.models.heads import checked_config, model_meta
from layered.text.models.transformers import TransformerLM, transformer_classifier
from layered.text.sorted_loader import SortedDL

Source = StrPath | nn.Module


class Built(NamedTuple):
    """A model for a learner.

    Attributes:
        model: The model.
        recipe: How it is built again, for an export.
    """

    model: nn.Module
    recipe: dict[str, Any]


def is_source(arch: object) -> TypeGuard[Source]:
    """Whether a learner's architecture is a model of transformers, its folder or its name, rather than a class of the library.

    Args:
        arch: The architecture.
    """
    own = {kind.__name__.lower() for kind in model_meta}
    return isinstance(arch, (os.PathLike, nn.Module)) or (isinstance(arch, str) and arch.lower() not in own)


def refuse_recurrent(given: Mapping[str, tuple[object, object]]) -> None:
    """Refuse arguments that only recurrent models have.

    Args:
        given: By name, the value and the usual one.

    Raises:
        BadArgument: One of them was given.
    """
    for name, (value, usual) in given.items():
        if value != usual:
            raise BadArgument(
                f"{name} is for recurrent models such as AWD_LSTM",
                got=f"{name}={value!r} for a model of Hugging Face",
                fix=f"leave out {name}=",
            )


def hf_classifier(
    dls: Any,
    source: Source,
    n_out: int,
    pretrained: bool = True,
    changes: Mapping[str, Any] | None = None,
    **head: Any,
) -> Built:
    """A classifier on a model of Hugging Face, for the texts of some loaders.

    Args:
        dls: The loaders.
        source: The model, its folder or its name on the hub.
        n_out: Number of outputs.
        pretrained: Read the weights; by False they are drawn at random.
        changes: Settings that differ from those of its config.json.
        head: Of `transformer_classifier`: `pool` (by default as the model's folder says), `lin_ftrs`, `ps`, `y_range`.

    Raises:
        BadValue: Model and texts do not belong together.
    """
    column, opened = TextColumn.of_loaders(dls), open_transformer(source, False, pretrained, checked_config(changes))
    check_tokens(column, opened)
    step, limit = column.step, position_limit(described_config(opened.model))
    window = None
    if isinstance(step, HuggingFaceTokenizer) and step.cut == "chunks":
        window = min(filter(None, (step.max_len, limit)), default=None)
    else:
        _check_lengths(dls, limit)
    pad = step.pad_idx if isinstance(step, HuggingFaceTokenizer) else column.pad or 0
    per_token = column.targets == ["token_category"]
    args = {
        "n_out": n_out,
        "is_decoder": opened.is_decoder,
        "pad_idx": pad,
        "window": window,
        "per_token": per_token,
        **head,
    }
    if head.get("pool") is None and not per_token:
        args["pool"] = opened.pool
    return _built("text.transformer_classifier", transformer_classifier(opened.model, **args), opened.model, args)


def hf_language_model(
    dls: Any, source: Source, pretrained: bool = True, changes: Mapping[str, Any] | None = None
) -> Built:
    """A language model of Hugging Face, for the texts of some loaders.

    Args:
        dls: The loaders.
        source: The model, its folder or its name on the hub.
        pretrained: Read the weights; by False they are drawn at random.
        changes: Settings that differ from those of its config.json.

    Raises:
        BadValue: Model and texts do not belong together.
    """
    column, opened = TextColumn.of_loaders(dls), open_transformer(source, True, pretrained, checked_config(changes))
    check_tokens(column, opened)
    limit = position_limit(described_config(opened.model))
    for loader in as_loaders(dls):
        if isinstance(loader, LMDataLoader) and limit is not None and loader.seq_len > limit:
            raise BadValue(
                "the rows of a batch are longer than the model reads",
                got=f"seq_len={loader.seq_len}",
                expected=f"at most {limit} tokens",
                fix=f"seq_len={limit}",
            )
    return _built("text.transformer_lm", TransformerLM(opened.model), opened.model, {})


def _built(builder: str, model: nn.Module, module: nn.Module, args: dict[str, Any]) -> Built:
    plain = {name: list(value) if isinstance(value, (list, tuple)) else value for name, value in args.items()}
    return Built(model, {"builder": builder, "args": {"config": described_config(module), **plain}})


def check_tokens(column: TextColumn, opened: Transformer) -> None:
    """Refuse texts whose numbers are those of another tokenizer than the model's.

    Args:
        column: The texts.
        opened: The model.

    Raises:
        BadValue: The model has no vectors for some of the tokens, or its folder has another tokenizer.
    """
    rows, count, fix = embedding_rows(opened.model), len(column.vocab), f"tok_tfm={opened.name!r} in the loaders"
    is_hf = isinstance(column.step, HuggingFaceTokenizer)
    if count > rows or (count != rows and not is_hf):
        raise BadValue(
            "tokenizer and model do not belong together",
            got=f"{column.step!r:.200} with {count} tokens, and {opened.name} with vectors for {rows}",
            expected="the tokenizer that the model was trained with",
            fix=fix,
        )
    if opened.folder is None or not is_hf or not (opened.folder / "tokenizer.json").is_file():
        return
    own = HuggingFaceTokenizer(opened.folder / "tokenizer.json").vocab
    differing = [i for i, pair in enumerate(zip(own, column.vocab, strict=False)) if pair[0] != pair[1]]
    if differing:
        raise BadValue(
            "tokenizer and model do not belong together",
            got=f"token {differing[0]} is {column.vocab[differing[0]]!r} in the loaders, and {own[differing[0]]!r} in "
            f"{opened.name}; {len(differing)} tokens differ",
            expected="the tokenizer that the model was trained with",
            fix=fix,
        )


def _check_lengths(dls: Any, limit: int | None) -> None:
    """Refuse texts that are longer than the model reads; they are cut only where it was asked for."""
    by_length = [loader for loader in as_loaders(dls) if isinstance(loader, SortedDL) and loader.sort_func is None]
    lengths = [length for loader in by_length for length in loader.lengths]
    count = 0 if limit is None else sum(length > limit for length in lengths)
    if count:
        raise BadValue(
            f"{count} of {len(lengths)} texts are longer than the model reads",
            got=f"up to {max(lengths):.0f} tokens",
            expected=f"at most {limit}",
            fix=f'max_len={limit} in the loaders cuts them; with cut="chunks" they are read piece by piece',
        )

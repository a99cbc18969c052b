"""Texts into an exported graph: a script turns them into numbers of tokens, which the graph takes with a mask of padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from layered.data import TfmdDL, as_dataset, pick
from layered.foundation import Pipeline, plain
from layered.loop import Loop
from layered.text.hf_tokenizers import HuggingFaceTokenizer
from layered.text.models.transformers import TransformerEncoder
from layered.text.types import TensorText
from layered.training.graphs import GraphInput, Preparation, classes_of, graph_inputs, not_in_script


@graph_inputs.register("text.tokens")
def text_input(loop: Loop, loader: Any) -> GraphInput | None:
    """The inputs of a model of texts: numbers of tokens and a mask, under the names that transformers has for them.

    Args:
        loop: The learner.
        loader: A loader of texts.
    """
    dataset = as_dataset(loader.dataset) if isinstance(loader, TfmdDL) else None
    if dataset is None or dataset.n_inp != 1 or not dataset.columns or len(loader.after_batch):
        return None
    ids = loader.one_batch()[0]
    if not isinstance(ids, TensorText) or ids.ndim != 2:
        return None
    has_segments = "segments" in vars(ids)
    names = ("input_ids", "attention_mask", *(["token_type_ids"] if has_segments else []))

    def feed(batch: Any) -> tuple[Tensor, ...]:
        beside = vars(batch[0])
        ids = plain(batch[0]).as_subclass(Tensor).clone()
        mask = (~beside["padding"]).long() if "padding" in beside else torch.ones_like(ids)
        return (ids, mask, *([beside["segments"].clone()] if has_segments else []))

    column = dataset.columns[0]
    steps = column.tfms.fs[column.getters :]
    tok = steps[0] if len(steps) == 1 and isinstance(steps[0], HuggingFaceTokenizer) else None
    if tok is None or has_segments or tok.is_split or (tok.max_len is not None and tok.cut == "chunks"):
        not_in_script(steps, "numbers of tokens")
        tok = None

    def source(position: int) -> Any:
        assert tok is not None
        return tok.read(Pipeline(column.tfms.fs[: column.getters], split_idx=1)(pick(column.items, position)))

    return GraphInput(
        names=names,
        feed=feed,
        enter=_with_padding,
        loader=loader,
        axes=({1: "token"},) * len(names),
        needs_axes=True,
        settings={"inputs": dict.fromkeys(names, "int64")} if tok is None else _settings(loop, tok),
        prepare=None if tok is None else PREPARE,
        source=source,
        classes=classes_of(loader),
    )


def _with_padding(ids: Tensor, mask: Tensor, segments: Tensor | None = None) -> tuple[Tensor]:
    """Numbers of tokens that say where they are padding, as models of this library read them."""
    text: Any = ids.clone()
    text.padding = mask == 0
    if segments is not None:
        text.segments = segments
    return (text,)


def _settings(loop: Loop, tok: HuggingFaceTokenizer) -> dict[str, Any]:
    encoders = [part for part in loop.model.modules() if isinstance(part, TransformerEncoder)]
    bounds = [n for part in encoders for n in (part.limit, part.window) if n is not None]
    return {
        "tokenizer": tok.backend.to_str(),
        "prefix": tok.prefix,
        "suffix": tok.suffix,
        "pad": tok.pad_idx,
        "max_len": tok.max_len,
        "cut": tok.cut,
        "most": min(bounds, default=None),
    }


# -- what is copied into the script


def prepare_texts(items: list[Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The graph's inputs from texts: numbers of tokens, and 1 where they are not padding.

    Args:
        items: The texts.
        settings: The tokenizer of the learner, and how it cuts.
    """
    from tokenizers import Tokenizer

    tokenizer, prefix, suffix = Tokenizer.from_str(settings["tokenizer"]), settings["prefix"], settings["suffix"]
    texts: list[Any] = []
    for text in items:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if settings["max_len"] is not None and len(ids) > (room := settings["max_len"] - len(prefix) - len(suffix)):
            head = room // 4 if settings["cut"] == "head+tail" else room
            ids = ids[:head] + ids[len(ids) - (room - head) :]
        texts.append(prefix + ids + suffix)
        if settings["most"] is not None and len(texts[-1]) > settings["most"]:
            raise ValueError(f"a text of {len(texts[-1])} tokens is longer than the model reads: {settings['most']}")
    longest = max([1, *map(len, texts)])
    padded = np.array([text + [settings["pad"]] * (longest - len(text)) for text in texts], np.int64)
    return {
        "input_ids": padded,
        "attention_mask": np.array([[1] * len(t) + [0] * (longest - len(t)) for t in texts], np.int64),
    }


PREPARE = Preparation((prepare_texts,), "", ("tokenizers",), "texts", "words", 0.0)

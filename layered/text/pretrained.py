"""Weights of language models that were trained before: their files, their vocabulary, and the names of older layouts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from layered.catalog import URLs, untar_data
from layered.files import joined, read_vocab, read_weights, state_dict_of
from layered.foundation import (
    BadArgument,
    BadFile,
    BadValue,
    CannotRestore,
    NotFoundPath,
    Offline,
    Path,
    StrPath,
    describe,
)
from layered.loop import check_fits, read_parts, unwrapped

_ROWS_OF_WORDS = ("0.encoder.weight", "0.encoder_dp.emb.weight", "1.decoder.weight", "1.decoder.bias")
PRETRAINED_FNAMES = "pretrained_fnames=['weights', 'vocab'] takes files of your own"


def match_embeds(
    old_wgts: Mapping[str, Tensor], old_vocab: Sequence[str], new_vocab: Sequence[str]
) -> dict[str, Tensor]:
    """The weights of a language model for another vocabulary: rows go by word, and new words get the mean of all.

    Args:
        old_wgts: The weights by name; the others stay as they are.
        old_vocab: The words that they are for.
        new_vocab: The words that they are to be for.

    Raises:
        BadValue: The weights do not have a row for each word, or the vocabularies have no word in common.

    Examples:
        >>> matched = match_embeds({"0.encoder.weight": torch.tensor([[1.0], [3.0]])}, ["a", "b"], ["b", "c"])
        >>> matched["0.encoder.weight"].tolist()
        [[3.0], [2.0]]
    """
    place = {word: i for i, word in enumerate(old_vocab)}
    places = torch.tensor([place.get(word, -1) for word in new_vocab], dtype=torch.long)
    if not (places >= 0).any():
        raise BadValue(
            "the vocabularies have no word in common",
            got=f"that of the weights: {_some(old_vocab)}; that of the data: {_some(new_vocab)}",
            fix="weights and data of the same language and tokenizer; or pretrained=False",
        )
    weights = dict(old_wgts)
    for name in _ROWS_OF_WORDS:
        if name in weights:
            rows = weights[name]
            if not rows.ndim or not rows.is_floating_point():
                raise BadValue(f"{name} does not hold a row of numbers for each word", got=describe(rows))
            if len(rows) < len(old_vocab):
                raise BadValue(
                    "the vocabulary does not belong to the weights",
                    got=f"{len(old_vocab)} words, and {len(rows)} rows in {name}",
                    expected="a row for each word",
                )
            known = (places >= 0).view(-1, *[1] * (rows.ndim - 1))
            weights[name] = torch.where(known, rows[places], rows.mean(0))
    return weights


def _some(words: Sequence[str]) -> str:
    return f"{len(words)} words such as {', '.join(map(repr, words[9:14] or words[:5]))}"


def clean_raw_keys(wgts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without the copies of dropped recurrent weights that older layouts have beside the raw ones.

    Args:
        wgts: The weights by name.

    Examples:
        >>> list(clean_raw_keys({"0.weight_hh_l0_raw": torch.ones(1), "0.module.weight_hh_l0": torch.ones(1)}))
        ['0.weight_hh_l0_raw']
    """

    def is_copy(name: str) -> bool:
        path, _, last = name.rpartition("module.")
        return f"{path}{last}_raw" in wgts

    return {name: x for name, x in wgts.items() if not is_copy(name)}


def load_ignore_keys(model: nn.Module, wgts: Mapping[str, Tensor]) -> Any:
    """Load weights in their order, whatever their names; those that are left over are not used.

    Args:
        model: A module.
        wgts: At least as many weights as the module has.

    Raises:
        CannotRestore: There are fewer, or one has another shape.
    """
    own = model.state_dict()
    pairs = list(zip(own, wgts.values(), strict=False))
    unfit = [
        f"{name}: {tuple(x.shape)} instead of {tuple(own[name].shape)}"
        for name, x in pairs
        if x.shape != own[name].shape
    ]
    if len(pairs) < len(own) or unfit:
        raise CannotRestore(
            f"the weights do not fit {type(model).__name__} in their order",
            got="; ".join(unfit[:5]) or f"{len(pairs)} weights",
            expected=f"{len(own)} weights of the shapes of the model",
        )
    return model.load_state_dict(dict(zip(own, wgts.values(), strict=False)))


def load_model_text(
    file: StrPath,
    model: nn.Module,
    opt: Any = None,
    with_opt: bool | None = None,
    device: torch.device | str | None = None,
    strict: bool = True,
) -> None:
    """Read weights into a model of texts, those of older layouts too, and the optimizer's state; `learn.load` does the same.

    Args:
        file: A path, with its suffix.
        model: The model.
        opt: Its optimizer.
        with_opt: Read the optimizer's state; by default if there is an optimizer, and the file has its state.
        device: Where to move the model first.
        strict: Every weight of the model must be in the file, and no other.

    Raises:
        CannotRestore: Names or shapes differ, or the optimizer's state is missing.
        NotFoundPath: There is no such file.
        BadFile: It is damaged.
        UnsafeFile: It holds more than weights.
    """
    path = Path(file)
    parts, target = read_parts(path, clean_raw_keys), unwrapped(model)
    check_fits(path, target.state_dict(), parts["model"], strict)
    if with_opt and (opt is None or "opt" not in parts):
        raise CannotRestore(
            "there is no state of an optimizer to read, or no optimizer for it",
            got=f"{path} with {', '.join(parts)}; opt={describe(opt)}",
            fix="with_opt=False reads the weights alone",
        )
    if device is not None:
        model.to(device)
    if opt is not None and with_opt is not False and "opt" in parts:
        opt.load_state_dict(parts["opt"])
    target.load_state_dict(parts["model"], strict=strict)


def pretrained_files(url: str, caller: str) -> tuple[Path, Path]:
    """The files of published weights and their vocabulary, downloaded by the first call.

    Args:
        url: The name of the entry in the catalogue.
        caller: The function that needs them, for the message.

    Raises:
        Offline: They are not on this machine, and the network is unavailable.
        BadFile: The folder does not have the two files.
    """
    try:
        folder = untar_data(getattr(URLs, url))
    except Offline as error:
        raise Offline(
            f"{caller} needs trained weights ({url}), and they cannot be downloaded",
            got=error.got or error.problem,
            fix=f"pretrained=False trains from scratch; {PRETRAINED_FNAMES}",
        ) from error
    found = [sorted(f for f in folder.rglob(f"*{suffix}") if f.name[0] != ".") for suffix in (".pth", ".pkl")]
    if not all(found):
        raise BadFile(f"'{folder}' lacks the weights or their vocabulary", expected="a .pth and a .pkl file")
    return Path(found[0][0]), Path(found[1][0])


def given_files(folder: StrPath, fnames: Sequence[StrPath]) -> tuple[Path, Path]:
    """The files that `pretrained_fnames` names: in a folder, or as they are; with or without `.pth` and `.pkl`.

    Args:
        folder: Where they are looked for first.
        fnames: The names of the weights and of the vocabulary.

    Raises:
        BadArgument: These are not two names.
        NotFoundPath: There is no such file.
    """
    if isinstance(fnames, (str, os.PathLike)) or len(fnames) != 2:
        raise BadArgument(
            "pretrained_fnames needs two files",
            got=repr(fnames),
            expected="the weights and their vocabulary",
            fix="pretrained_fnames=['weights', 'vocab']",
        )
    suffixes = ((".pth", ".safetensors", ""), (".pkl", ".json", ""))
    weights, vocab = (_found(folder, name, ends) for name, ends in zip(fnames, suffixes, strict=True))
    return weights, vocab


def _found(folder: StrPath, name: StrPath, suffixes: Sequence[str]) -> Path:
    places = [Path(f"{stem}{suffix}") for stem in (joined(folder, name), joined(name)) for suffix in suffixes]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise NotFoundPath(f"there is no file '{name}'", expected=f"{places[0]} or {places[len(suffixes)]}")
    return found


def read_pretrained(weights: StrPath, vocab: StrPath, new_vocab: Sequence[str]) -> dict[str, Tensor]:
    """The weights of a published language model, for another vocabulary.

    Args:
        weights: The file of the weights.
        vocab: The file of their vocabulary, a list of strings as JSON or as a pickle.
        new_vocab: The vocabulary that they are to be for.

    Raises:
        UnsafeFile: A file holds more than tensors or strings.
        BadFile: A file is damaged, or the weights are not those of such a model.
        BadValue: The vocabulary does not belong to the weights, or has no word in common with the new one.
    """
    old, words = clean_raw_keys(state_dict_of(read_weights(weights))), read_vocab(vocab)
    rows = old.get(_ROWS_OF_WORDS[0])
    if rows is None or rows.ndim != 2:
        raise BadFile(
            f"'{weights}' is not a language model of this layout",
            got=", ".join(list(old)[:5]),
            expected="weights named 0.encoder.weight, 0.rnns.0.weight_hh_l0_raw, …",
        )
    if len(rows) != len(words):
        raise BadValue(
            "the vocabulary does not belong to the weights",
            got=f"{len(words)} words in '{vocab}', and {len(rows)} rows in '{weights}'",
            expected="a word for each row",
            fix="the vocabulary that was saved with these weights",
        )
    return match_embeds(old, words, new_vocab)

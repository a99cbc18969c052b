"""Labels that only validation items have, and labels that are missing: settled before anything is trained."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from layered.data.column import TfmdLists, set_aside_random
from layered.data.encodings import Categorize, CategoryMap, distinct, list_some, unknown_labels
from layered.data.subset import SPLIT_NAMES
from layered.foundation.errors import BadValue, warn
from layered.foundation.pipeline import Pipeline


def settle_unseen(dsets: Any) -> None:
    """Do what the encodings of the targets say (`unseen`) about labels that the training items lack.

    raises     UnknownLabel where it says "error", BadValue for a label that is missing
    """
    for tl in dsets.tls[dsets.n_inp :]:
        encode = next((t for t in tl.tfms if isinstance(t, Categorize) and t.fits_vocab), None)
        if encode is None or encode.add_na or tl.splits is None:
            continue
        with set_aside_random(tl.is_foreign):
            if encode.fitted_vocab.has_missing:
                raise _missing(tl, encode)
            for i in range(1, tl.n_subsets):
                labels, has_missing = distinct(_labels(tl, encode, i))
                if has_missing:
                    raise _missing(tl, encode, i)
                _settle(dsets, tl, encode, i, labels)


def _settle(dsets: Any, tl: TfmdLists, encode: Categorize, i: int, labels: list[Any]) -> None:
    seen = CategoryMap(_labels(tl, encode, 0), sort=False).o2i if encode.unseen == "extend" else encode.fitted_vocab.o2i
    strange = [label for label in labels if label not in seen]
    if not strange:
        return
    name = SPLIT_NAMES[i] if i < len(SPLIT_NAMES) else f"other ({i})"
    if encode.unseen == "error":
        raise unknown_labels(strange, encode.fitted_vocab, f" of the training items, but among the {name} items")
    if encode.unseen == "extend":
        done = "classes of the model all the same, which never sees them in training"
    else:
        keep = np.array([not set(encode.labels([target])) & set(strange) for target in _before(tl, encode, i)])
        for column in dsets.tls:
            column.splits = [*column.splits[:i], column.splits[i][keep], *column.splits[i + 1 :]]
        count = int((~keep).sum())
        done = f"left out, with the {f'{count} items that have' if count > 1 else 'item that has'} them"
    warn(f"labels that only {name} items have are {done}: {list_some(strange)}")


def _before(tl: TfmdLists, encode: Categorize, i: int) -> TfmdLists:
    """What the encoding is given for the items of split `i`."""
    res = copy.copy(tl)
    res.tfms = Pipeline(tl.tfms.fs[: tl.tfms.fs.index(encode)])
    return res.subset(i)


def _labels(tl: TfmdLists, encode: Categorize, i: int) -> Any:
    return encode.labels(_before(tl, encode, i))


def _missing(tl: TfmdLists, encode: Categorize, split: int = 0) -> BadValue:
    targets = _before(tl, encode, split)
    missing = [i for i, target in enumerate(targets) if distinct(encode.labels([target]))[1]]
    count = f"{len(missing)} {SPLIT_NAMES[split]} item{'s have' if len(missing) > 1 else ' has'}"
    return BadValue(
        f"{count} no label, when making the {tl.name} of {targets.describe_item(missing[0])}",
        got=repr(targets[missing[0]]),
        expected="a label for each item",
        fix="leave those items out (df.dropna(subset=...)), or keep a class for them: CategoryBlock(add_na=True)",
    )

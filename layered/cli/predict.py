"""`layered predict MODEL INPUT...`: a line for each image, or for each row of a table."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import layered.vision.all  # noqa: F401  # registers what exported image models are made of
from layered.collab import TabularDataLoaders, read_table
from layered.data import as_dataset, as_loader, class_vocab, get_image_files
from layered.foundation import BadArgument, BadItem, LayeredError, Path, one_line
from layered.inference import is_unsure
from layered.text import TextLearner
from layered.training import Learner, load_learner


def run_predict(args: argparse.Namespace) -> None:
    """Predict images, folders of images, or the rows of tables; failures are reported after all were tried.

    Args:
        args: `model`: an exported learner; `inputs`: files and folders; `json` and `csv`: how to print;
            `abstain`: the least confidence of a prediction.
    """
    learn = load_learner(args.model)
    form = "json" if args.json else "csv" if args.csv else "text"
    if isinstance(learn.dls, TabularDataLoaders) or isinstance(learn, TextLearner):
        for table in args.inputs:
            predict_table(learn, table, printer(form), args.abstain)
    else:
        predict_images(learn, args.inputs, printer(form), args.abstain)


def predict_images(
    learn: Learner, inputs: list[str], put: Callable[[Mapping[str, Any]], None], abstain: float | None = None
) -> None:
    """Predict image files, and those of folders.

    Args:
        learn: The learner.
        inputs: Files and folders.
        put: Prints a prediction.
        abstain: As for `learn.predict`.
    """
    failed: list[str] = []
    images = list(images_of(inputs))
    vocab = [str(name) for name in class_vocab(learn.dls) or []]
    for image in images:
        try:
            label, _, probabilities = learn.predict(image, abstain=abstain)
        except LayeredError as error:
            failed.append(f"{image}: {_first_cause(error).problem}")
            continue
        numbers = probabilities.flatten().tolist()
        named = dict(zip(vocab, numbers, strict=True)) if len(vocab) == len(numbers) else numbers
        prediction = None if label is None else str(label)
        put({"image": image, "prediction": prediction, "probabilities": named})
    if failed:
        raise BadItem(f"{len(failed)} of {len(images)} images could not be predicted", got="\n           ".join(failed))


def _first_cause(error: LayeredError) -> LayeredError:
    """The error without the stages of the pipeline that it went through."""
    while isinstance(error.__cause__, LayeredError):
        error = error.__cause__
    return error


def images_of(inputs: list[str]) -> Iterator[str]:
    """The files, and in place of a folder its images."""
    for given in inputs:
        yield from map(str, get_image_files(given)) if Path(given).is_dir() else [given]


_OF_CLASSES = ("category", "multicategory", "token_category")


def predict_table(
    learn: Learner, table: str, put: Callable[[Mapping[str, Any]], None], abstain: float | None = None
) -> None:
    """Predict the rows of a table.

    Args:
        learn: A learner for tables, texts or ratings.
        table: The file.
        put: Prints a prediction.
        abstain: As for `learn.predict`.

    Raises:
        BadArgument: `abstain` is given to a learner of something else than one class.
    """
    dl = learn.dls.test_dl(read_table(table), with_labels=False)
    predictions, _, decisions = learn.get_preds(dl=dl, with_decoded=True)
    kinds = as_dataset(as_loader(learn.dls.valid).dataset).target_kinds
    is_class = kinds == ["category"]
    if abstain is not None and not is_class:
        raise BadArgument("only a learner of one class for each item can abstain", got=f"predictions of {kinds}")
    vocab = [str(name) for name in class_vocab(learn.dls) or ()] if kinds[0] in _OF_CLASSES else []
    if kinds == ["token_category"]:
        for row, labels in enumerate(decisions):
            put({"row": row, "prediction": " ".join(vocab[i] for i in labels.tolist())})
        return
    for row, numbers in enumerate(predictions.reshape(len(predictions), -1).tolist()):
        if vocab:
            named = dict(zip(vocab, numbers, strict=True))
            if is_class and is_unsure(learn, decisions[row], predictions[row], abstain):
                put({"row": row, "prediction": None, "probabilities": named})
                continue
            chosen = [max(named, key=named.__getitem__)] if is_class else [vocab[i] for i in decisions[row].nonzero()]
            put({"row": row, "prediction": ";".join(chosen), "probabilities": named})
        else:
            put({"row": row, "prediction": numbers[0] if len(numbers) == 1 else numbers})


def printer(form: str) -> Callable[[Mapping[str, Any]], None]:
    """A function that prints one prediction.

    Args:
        form: "text", with tabs; "json", an object a line; or "csv", with a line of names first.
    """
    writer = csv.writer(sys.stdout, lineterminator="\n")
    has_names = False

    def put(found: Mapping[str, Any]) -> None:
        nonlocal has_names
        if form == "json":
            print(json.dumps(found, ensure_ascii=False))
            return
        source, prediction = list(found.items())[:2]
        named = found.get("probabilities", {})
        named = named if isinstance(named, dict) else {}
        if form == "text":
            confidence = [f"{max(named.values()):.4f}"] if named else []
            said = "(not sure)" if prediction[1] is None else one_line(str(prediction[1]))
            print(one_line(str(source[1]), None), said, *confidence, sep="\t")
            return
        if not has_names:
            writer.writerow([source[0], "prediction", *named])
            has_names = True
        writer.writerow([source[1], prediction[1], *named.values()])

    return put

"""The card of a model: what it was made from, how good it is and how sure that is, what it cannot do, how to load it."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from layered.callback import describe_run
from layered.data import as_dataset, as_loader, class_vocab, plain_function
from layered.foundation import checked, function_name, masked, noop, one_line, without_folders
from layered.inference import calibration_of, get_preds
from layered.loop import Loop, unwrapped, valid_of
from layered.training.intervals import RESAMPLES, interval
from layered.version import __version__

MOST_CLASSES = 100  # with a line of their own
TASKS = {
    ("vision", "category"): "image-classification",
    ("text", "category"): "text-classification",
    ("text", "token_category"): "token-classification",
    ("tabular", "category"): "tabular-classification",
    ("tabular", "regression"): "tabular-regression",
}
_ACTING = re.compile(r"[\\`*\[\]<>|~&#]|(?<!\w)_|_(?!\w)")  # what Markdown and HTML take for more than text


@checked
def card(
    loop: Loop, about: str | None = None, limits: str | None = None, licence: str | None = None, name: str = ""
) -> str:
    """A model card in Markdown, from what the learner knows of its data and its last fit; secrets are masked.

    If there are validation items, they are predicted: the card has the metrics on them with 95 % confidence intervals, those of
    Wilson for the share of right or wrong classes, and bootstrap intervals for other metrics.

    Args:
        loop: The learner.
        about: What the model is for, in your words.
        limits: What it is not for, and where it fails, in your words.
        licence: For the head of the card, as the hub writes it: "mit", "apache-2.0".
        name: Where the model can be loaded from, as `load_learner` takes it; by default a file.
    """
    app = _app(loop)
    parts = [
        _head(loop, app, licence),
        f"# {_text(name.removeprefix('hf://').partition('@')[0] or 'A model')}",
        about or "*The author has not said what this model is for.*",
        "## Data",
        _data(loop),
        "## How good it is",
        _metrics(loop),
        "## Training",
        _training(loop),
        "## Limits",
        _limits(loop, limits),
        "## How to load it",
        _loading(app, name),
    ]
    return "\n\n".join(parts) + "\n"


def _app(loop: Loop) -> str:
    """The application: "vision", "text", "tabular", "collab", or "basics" for none of them."""
    columns = as_dataset(as_loader(loop.dls.train).dataset).columns
    steps = [step for column in columns for step in column.tfms]
    parts = [type(loop), type(loop.dls), *(plain_function(step) or type(step) for step in steps)]
    modules = " ".join(str(getattr(part, "__module__", "")) for part in parts)
    return next((app for app in ("vision", "text", "collab", "tabular") if f"layered.{app}" in modules), "basics")


def _kinds(loop: Loop) -> list[str | None]:
    return as_dataset(as_loader(loop.dls.train).dataset).target_kinds


def _head(loop: Loop, app: str, licence: str | None) -> str:
    """The head that the hub reads, as YAML, of which JSON is a part."""
    kinds = _kinds(loop)
    task = TASKS.get((app, str(kinds[0]))) if len(kinds) == 1 else None
    fields = {"library_name": "layered", "tags": ["layered"], "pipeline_tag": task, "license": licence}
    return "\n".join(["---", *(f"{k}: {json.dumps(v)}" for k, v in fields.items() if v is not None), "---"])


def _data(loop: Loop) -> str:
    loaders = [loop.dls.train, *([valid] if (valid := valid_of(loop.dls)) is not None else [])]
    datasets = [as_loader(dl).dataset for dl in loaders]
    counts = [_count(dataset) for dataset in datasets]
    vocab = [str(label) for label in class_vocab(loop.dls) or ()] if "category" in _kinds(loop) else []
    lines = [_table(["split", "items"], zip(("training", "validation"), counts, strict=False))]
    if not any(counts):
        lines = ["*Not known: this learner was loaded without its data.*"]
    labels = [as_dataset(dataset).class_labels() for dataset in datasets] if any(counts) else []
    if (
        len(_kinds(loop)) == 1
        and vocab
        and labels
        and all(o is not None and o.ndim == 1 and o.dtype.kind in "iu" for o in labels)
    ):
        each = [np.bincount(np.asarray(o, int), minlength=len(vocab)).tolist() for o in labels]
        rows = list(zip(vocab, *each, strict=True))
        lines.append(_table(["class", "training", "validation"][: 1 + len(each)], rows[:MOST_CLASSES]))
        lines += [f"and {len(rows) - MOST_CLASSES} more classes"] if len(rows) > MOST_CLASSES else []
    elif vocab:
        lines.append(
            f"{len(vocab)} classes: {_text(', '.join(vocab[:MOST_CLASSES]))}{', …' if len(vocab) > MOST_CLASSES else ''}"
        )
    return "\n\n".join(lines)


def _count(dataset: Any) -> int:
    try:
        return len(dataset)
    except TypeError:  # a stream
        return 0


def _metrics(loop: Loop) -> str:
    valid = valid_of(loop.dls)
    if valid is None or not _count(as_loader(valid).dataset):
        return "*Not measured: this learner has no validation items.*"
    with loop.no_bar(), loop.no_logging():
        record = list(loop.validate() or [])
        metrics = list(loop.metric_set.metrics)
        outputs, targets = (get_preds(loop, act=noop) if metrics else (None, None))[:2]
    named = zip(loop.metric_set.names, metrics, record[1:], strict=False)
    several = list(targets) if isinstance(targets, (list, tuple)) else [targets]
    rows = [("loss", _number(record[0]), "")] if record else []
    kinds = set()
    for name, metric, value in named:
        found = interval(metric, value, outputs, several) if isinstance(value, float) else None
        kinds |= {found[2]} if found else set()
        rows.append(
            (name, _number(value), f"{_number(found[0])} to {_number(found[1])} ({found[2]})" if found else "not known")
        )
    table = _table(["metric", "value", "95 % interval"], rows)
    how = f" A bootstrap interval is from {RESAMPLES} draws of the items." if "bootstrap" in kinds else ""
    return (
        f"On the {_count(as_loader(valid).dataset):,} validation items. If anything was chosen by them, new items may do worse. "
        f"The intervals say what another draw of so many items of the same kind could give.{how}\n\n{table}"
    )


def _training(loop: Loop) -> str:
    model = unwrapped(loop.model)
    rows = [("model", f"{type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters")]
    if loop.opt is not None and loop.fit_arguments:
        settings = describe_run(loop)["configuration"]
        optimizer, loaders = settings["optimizer"], settings["loaders"]
        makers = loop.opt_func.values() if isinstance(loop.opt_func, Mapping) else [loop.opt_func]
        rows += [
            ("loss function", settings["loss"]),
            ("optimizer", ", ".join(function_name(make) for make in makers)),
            *((f"parameter group {i}", _pairs(group)) for i, group in enumerate(optimizer["groups"])),
            ("last fit", _pairs(settings["fit"])),
            ("batch size", loaders[0].get("bs", loaders[0].get("batch_size", "not known"))),
            ("callbacks", ", ".join(settings["callbacks"])),
        ]
    else:
        rows.append(("last fit", "not known: it was not in this process"))
    rows.append(("versions", f"layered {__version__}, torch {torch.__version__}, Python {platform.python_version()}"))
    return _table(["what", "how"], [(what, without_folders(str(how))) for what, how in rows])


def _limits(loop: Loop, limits: str | None) -> str:
    lines = [limits] if limits else []
    if any(str(kind) == "category" for kind in _kinds(loop)):
        sure = "its probabilities are those of a network, which is often too sure"
        calibration = calibration_of(loop)
        if calibration is not None and calibration.ece is not None:
            before, after = calibration.ece
            sure = (
                f"its probabilities are calibrated on {calibration.count:,} items by a temperature of "
                f"{calibration.temperature:.3g} (expected calibration error {before:.3f} before, {after:.3f} after)"
            )
        lines.append(f"- It knows its classes only: it answers with one of them whatever it is shown, and {sure}.")
        if calibration is not None and calibration.abstain is not None:
            lines.append(
                f"- It gives no class where the most probable one is less probable than {calibration.abstain:g}."
            )
    lines.append(
        "- It was measured on items like those it was trained on; on others it may be worse than the table says."
    )
    return "\n".join(lines)


def _loading(app: str, name: str) -> str:
    module = "layered.basics" if app == "basics" else f"layered.{app}.all"
    address = json.dumps(name or "model.layered")
    code = f"from {module} import load_learner\n\nlearn = load_learner({address})\nlearn.predict(item)"
    return f"```python\n{code}\n```\n\nOpening the file runs no code from it."


def _pairs(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_number(value)}" for name, value in settings.items())


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else one_line(str(value))


def _table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [
        names,
        ["---"] * len(names),
        *([_text(f"{o:,}" if isinstance(o, int) else str(o)) for o in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: str) -> str:
    """Text of anybody's as plain text: on one line, without secrets, and nothing in it is Markdown or HTML."""
    return _ACTING.sub(r"\\\g<0>", one_line(masked(text)))

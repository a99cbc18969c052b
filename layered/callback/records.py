"""Records of runs: what happened as JSON lines, what a run was made of as a manifest, and a reader for both."""

from __future__ import annotations

import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from layered.callback.logging import columns_of
from layered.callback.provenance import as_json, describe_run
from layered.files import append_line, commit, joined, parse_json, read_whole, real_path, saving
from layered.foundation import BadFile, CannotSave, NotFoundPath, Path, Report, lazy, rank_and_world
from layered.loop import Callback, Checkpoint, Recorder, ResumedFit, signal_of
from layered.metrics import unique_names

pd = lazy("pandas")

EVENTS, MANIFEST = "events.jsonl", "run.json"
_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class RunRecord(Callback):
    """Writes what happens in each fit to `folder/events.jsonl`, and what it is made of to `folder/run.json`.

    Every line of events is a JSON object with `event`, `time` (UTC), `fit` (the number of the fit of this learner, from 1),
    `attempt` (how many times this fit was started), and what belongs to the event:

        fit         arguments, resumed (null, or file, epoch, batch and what was restored)
        epoch       epoch, values (losses and metrics by name), lr (of the last group), batches (done so far), seconds
        checkpoint  file, epoch and batch (from which it resumes), bytes, seconds
        end         reason ("finished", "cancelled", "interrupted", "error", or the signal, such as "SIGTERM"), by (who
                    cancelled), error, seconds

    An attempt without an `end` was killed, or is still running. A resumed attempt repeats events: `read_record` returns those
    that count in the end. The manifest (`describe_run`) is of the last attempt: settings, seeds, data, code, command line,
    packages, hardware. Numbers that are not finite are "NaN", "Infinity" and "-Infinity".

    A line is written with one call; one that a kill has truncated is removed when the next fit begins. Of several processes only
    the first writes. Secrets are masked, and new files can be read by their owner only: they name folders.

    Args:
        folder: Created if needed; may be the folder of the checkpoints. It must be used for one learner only.

    Raises:
        CannotSave: An event could not be written.
        BadFile: When a fit begins: `events.jsonl` was written by something else.
    """

    order = 1002  # after the callbacks that write checkpoints or end fits
    observes = True
    state_kinds = ()

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = self.place = Path(folder)  # as it was given, and in full for the fit that is going on
        self.is_open = False

    def before_fit(self) -> None:
        learn, resumed_fit = self.learn, self.learn.callbacks.get(ResumedFit)
        self.is_open = bool(learn.fitting and not learn.peeking and rank_and_world()[0] == 0)
        if not self.is_open:
            return
        self.place = real_path(self.folder)
        before = [event for event in _repaired(self.place / EVENTS) if event["fit"] <= learn.fit_ordinal]
        attempts = [event for event in before if event["event"] == "fit" and event["fit"] == learn.fit_ordinal]
        self.common = {"fit": learn.fit_ordinal, "attempt": len(attempts) + 1}
        self.rows, self.cancelled_by, self.began, self.epoch_began = 0, "", time.monotonic(), time.monotonic()
        resumed = None
        self.known: set[int] = set()  # epochs that earlier attempts have recorded
        if resumed_fit is not None:
            saved = resumed_fit.saved
            rows = [{"part": part, "restored": done, "how": how} for part, done, how in learn.restored.rows]
            place = {"epoch": saved.epoch, "batch": saved.batch}
            resumed = {"file": saved.file, **place, "audit": rows}
            done = [
                event for event in _final(before) if event["event"] == "epoch" and event["fit"] == learn.fit_ordinal
            ]
            self.known = {event["epoch"] for event in done if event["epoch"] < saved.epoch}
        manifest = {"time": _now(), **self.common, **describe_run(learn)}
        text = json.dumps(manifest, indent=1, allow_nan=False) + "\n"
        commit(self.place / MANIFEST, lambda file: file.write(text.encode()), private=True)
        self._write("fit", arguments=dict(learn.fit_arguments), resumed=resumed, process=os.getpid())

    def before_epoch(self) -> None:
        self.epoch_began = time.monotonic()

    def after_batch(self) -> None:
        if self.is_open:
            self._write_checkpoints()

    def after_epoch(self) -> None:
        self._catch_up()

    def after_cancel_fit(self) -> None:
        self.cancelled_by = _raised_in(sys.exception())

    def on_end(self) -> None:
        if not self.is_open:
            return
        self._catch_up()
        reason, error = why_ended(self.learn.error, self.cancelled_by)
        self._write("end", reason=reason, by=self.cancelled_by, error=error, seconds=time.monotonic() - self.began)
        self.is_open = False

    def _catch_up(self) -> None:
        """Write events since the last call: epochs, including those that a callback cut short, and checkpoints."""
        if not self.is_open:
            return
        recorder = self.learn.callbacks.get(Recorder)
        done = [] if recorder is None else list(zip(recorder.epochs, recorder.values, recorder.iters, strict=True))
        for epoch, values, batches in done[self.rows :]:
            if epoch not in self.known:
                named = dict(zip(columns_of(self.learn)[1:], values, strict=False))
                lr = recorder.lrs[batches - 1] if recorder and batches else None
                seconds = time.monotonic() - self.epoch_began if epoch == self.learn.epoch else None
                self._write("epoch", epoch=epoch, values=named, lr=lr, batches=batches, seconds=seconds)
        self.rows = len(done)
        self._write_checkpoints()

    def _write_checkpoints(self) -> None:
        for checkpoint in (cb for cb in self.learn.cbs if isinstance(cb, Checkpoint)):
            while checkpoint.written:
                self._write("checkpoint", **checkpoint.written.popleft())

    def _write(self, event: str, **content: object) -> None:
        """Write one line, synced to disk if it reports a checkpoint or an end."""
        event_content = as_json({"event": event, "time": _now(), **self.common, **content})
        line = json.dumps(event_content, allow_nan=False).encode() + b"\n"
        try:
            append_line(self.place / EVENTS, line, sync=event in ("checkpoint", "end"), private=True)
        except CannotSave:
            self.is_open = False
            raise

    def __repr__(self) -> str:
        return f"RunRecord('{self.folder}')"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _raised_in(error: BaseException | None) -> str:
    """The callback in which an exception was raised; otherwise the function."""
    callbacks: list[Callback] = []
    trace, place = None if error is None else error.__traceback__, ""
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        place = frame.f_code.co_qualname
        callbacks += [
            cb for name in frame.f_code.co_varnames[:1] if isinstance(cb := frame.f_locals.get(name), Callback)
        ]
    return repr(callbacks[-1]) if callbacks else place


def why_ended(error: BaseException | None, cancelled_by: str = "") -> tuple[str, str | None]:
    """Why a fit ended, in a word, and the text of its error.

    Args:
        error: The exception that ended it.
        cancelled_by: What cancelled it.

    Examples:
        >>> why_ended(KeyboardInterrupt()), why_ended(ValueError("no"))
        (('interrupted', None), ('error', 'ValueError: no'))
    """
    if error is None:
        return "cancelled" if cancelled_by else "finished", None
    if isinstance(error, SystemExit) and (name := signal_of(error.code)) is not None:
        return name, None
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", None
    return "error", f"{type(error).__name__}: {error}"


class Record(Report):
    """What `read_record` has read. Printed, it is a table with a line for each fit.

    Args:
        folder: Where it was read.
        manifest: What the last attempt was made of: the content of `run.json`; empty if there is none.
        events: Every line, in the order written.

    Attributes:
        final: The events that count: of repeated ones the last; a fit that was started over drops what it and later fits did
            before.
    """

    def __init__(self, folder: pathlib.Path, manifest: dict[str, Any], events: list[dict[str, Any]]) -> None:
        self.folder, self.manifest, self.events, self.final = folder, manifest, events, _final(events)

    @property
    def epochs(self) -> Any:
        """A pandas `DataFrame` with a row for each epoch: fit, epoch, attempt, losses and metrics, lr, seconds."""
        first, last = ("fit", "epoch", "attempt"), ("lr", "seconds")
        rows = []
        for e in (e for e in self.final if e["event"] == "epoch"):
            names = unique_names(e["values"], (*first, *last))
            values = dict(zip(names, e["values"].values(), strict=True))
            rows.append({k: e[k] for k in first} | values | {k: e[k] for k in last})
        return pd.DataFrame(rows, columns=None if rows else [*first, *last])

    def records(self) -> list[dict[str, Any]]:
        rows = []
        for fit in dict.fromkeys(e["fit"] for e in self.final):
            events = [e for e in self.final if e["fit"] == fit]
            epochs = [e for e in events if e["event"] == "epoch"]
            values = epochs[-1]["values"] if epochs else {}
            last = ", ".join(f"{name} {v:.4g}" if isinstance(v, float) else f"{name} {v}" for name, v in values.items())
            end = next((e for e in events if e["event"] == "end"), {"reason": "killed, or still running"})
            rows.append(
                {
                    "fit": fit,
                    "attempts": events[-1]["attempt"],
                    "epochs": len(epochs),
                    "last": last,
                    "checkpoints": sum(e["event"] == "checkpoint" for e in events),
                    "end": " ".join(str(end[k]) for k in ("reason", "by", "error") if end.get(k)),
                }
            )
        return rows

    def heading(self) -> str:
        return f"the record of {self.folder}"


def read_record(folder: str | os.PathLike[str]) -> Record:
    """Read what a `RunRecord` has written, also while the run continues.

    Args:
        folder: The folder of the record.

    Raises:
        NotFoundPath: The folder has no record.
        BadFile: Its files were written by something else.

    Examples:
        >>> import tempfile
        >>> from layered.testing.tiny import synth_learner
        >>> folder, learn = tempfile.mkdtemp(), synth_learner()
        >>> with learn.no_bar(), learn.no_logging(): learn.fit(2, cbs=RunRecord(folder))
        >>> [event["event"] for event in read_record(folder).final]
        ['fit', 'epoch', 'epoch', 'end']
    """
    events, manifest = joined(folder, EVENTS), joined(folder, MANIFEST)
    if not events.is_file():
        raise NotFoundPath(f"'{folder}' has no record of a run", expected=f"a file {EVENTS}, written by RunRecord")
    made_of = parse_json(read_whole(manifest), f"'{manifest}'") if manifest.exists() else {}
    if not isinstance(made_of, dict):
        raise BadFile(f"'{manifest}' is not the manifest of a run", got=f"{made_of!r:.80}", fix=f"delete '{manifest}'")
    return Record(pathlib.Path(folder), made_of, _lines_of(events, _whole(read_whole(events))))


def _final(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    final: list[dict[str, Any]] = []
    for event in events:
        if event["event"] == "fit":
            final = [
                e
                for e in final
                if e["fit"] < event["fit"] or (e["fit"] == event["fit"] and _stands(e, event["resumed"]))
            ]
        final.append(event)
    return final


def _stands(event: Mapping[str, Any], resumed: Mapping[str, Any] | None) -> bool:
    """Whether an event of an earlier attempt is not done again by one that was resumed there."""
    if resumed is None or event["event"] == "end":
        return False
    if event["event"] == "checkpoint":
        return bool((event["epoch"], event["batch"]) <= (resumed["epoch"], resumed["batch"]))
    return event["event"] == "fit" or bool(event["epoch"] < resumed["epoch"])


def _whole(text: bytes) -> bytes:
    """Without the line that a kill has torn."""
    return text[: text.rfind(b"\n") + 1]


def _lines_of(path: pathlib.Path, text: bytes) -> list[dict[str, Any]]:
    events = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            event = parse_json(line, f"line {number}")
        except BadFile:
            event = None
        if not _is_event(event):
            raise BadFile(
                f"line {number} of '{path}' is not an event of a run", got=line[:80], fix="use another folder"
            )
        if "values" in event:
            event["values"] = {k: _NUMBERS.get(v, v) if isinstance(v, str) else v for k, v in event["values"].items()}
        events.append(event)
    return events


_NEEDED: dict[str, dict[str, tuple[type, ...]]] = {
    "fit": {"resumed": (dict, type(None))},
    "epoch": {"epoch": (int,), "values": (dict,), "lr": (object,), "seconds": (object,)},
    "checkpoint": {"epoch": (int,), "batch": (int,)},
}


def _is_event(event: Any) -> bool:
    """Whether something read from a file has the fields that a `RunRecord` writes."""
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return False
    needed = {"fit": (int,), "attempt": (int,), **_NEEDED.get(event["event"], {})}
    if not all(name in event and isinstance(event[name], kinds) for name, kinds in needed.items()):
        return False
    return event["event"] != "fit" or not event["resumed"] or {"epoch", "batch"} <= event["resumed"].keys()


def _repaired(path: pathlib.Path) -> list[dict[str, Any]]:
    """The events of a file, if it is there; a torn last line is taken away from it."""
    text = read_whole(path, missing_ok=True)
    events = _lines_of(path, _whole(text))
    if len(_whole(text)) < len(text):
        with saving(path):
            os.truncate(path, len(_whole(text)))
    return events

"""Logging the numbers of each epoch to anything with a `log(metrics, step)`; CSV and JSON lines files are built in."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import pathlib
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from layered.data import read_csv
from layered.files import append_line, commit, joined, parse_json, read_whole, real_path, saving
from layered.foundation import BadFile, BadValue, CannotSave, NotFoundPath, Path, rank_and_world, unknown_name, visible
from layered.loop import AbstractLoop, Callback, Checkpoint, Count, Kinds, ResumedFit, length_of, valid_of


@runtime_checkable
class MetricLogger(Protocol):
    """What numbers are logged to. An adapter to a tracking service needs only this one method."""

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Log the numbers of an epoch.

        Args:
            metrics: The numbers, by name.
            step: How many training batches the fit has done.
        """


def row_of(learn: AbstractLoop) -> dict[str, Any]:
    """The last row of the table by name, without the time: `{"epoch": 0, "train_loss": …, …}`.

    Args:
        learn: A learner with a recorder.
    """
    return {"epoch": learn.epoch, **dict(zip(columns_of(learn)[1:], learn.recorder.values[-1], strict=True))}


def columns_of(learn: AbstractLoop) -> list[str]:
    """The names that `row_of` uses.

    Args:
        learn: A learner with a recorder.
    """
    names = learn.recorder.metric_names
    return names[: len(names) - learn.recorder.add_time]


def check_column(learn: AbstractLoop, name: str, who: str) -> None:
    """Refuse to watch a column that is missing from the table, or that stays empty without validation data.

    Args:
        learn: A learner with a recorder, whose fit begins.
        name: The column.
        who: What watches it.

    Raises:
        UnknownName: There is no such column.
        BadValue: It will have no value.
    """
    columns = columns_of(learn)[1:]
    if name not in columns:
        raise unknown_name("column of the table", name, columns)
    valid = valid_of(learn.dls)
    is_valid = "valid_loss" in columns[: columns.index(name) + 1]
    if is_valid and (valid is None or length_of(valid) == 0):
        raise BadValue(
            f"{who} watches '{name}', which has no value without validation data",
            fix=f"{who}(monitor='train_loss'), or give some of the items to validation",
        )


class LoggerCallback(Callback):
    """Passes the numbers of each epoch of a fit to `logger.log(metrics, step)`, once; of several processes, only the first does.

    Args:
        logger: Anything with that method. `metrics` is the row of the table by name (`row_of`), `step` how many training batches
            the fit has done, without those that were cancelled.

    Raises:
        BadValue: `logger` has no such method.
    """

    order = 51
    transient: ClassVar[tuple[str, ...]] = ("logged",)
    observes = True
    state_kinds: ClassVar[Kinds] = ()

    def __init__(self, logger: MetricLogger) -> None:
        if not isinstance(logger, MetricLogger):
            raise BadValue("a logger needs a method log(metrics, step)", got=repr(logger))
        self.target, self.logged = logger, 0

    def before_fit(self) -> None:
        learn = self.learn
        if not learn.fitting or learn.peeking or rank_and_world()[0] > 0:
            self.run = False
            return
        self.logged = 0
        self.begin(columns_of(learn))

    def begin(self, columns: list[str]) -> None:
        """Called when a fit begins.

        Args:
            columns: The names of the numbers that will be logged.
        """

    def after_validate(self) -> None:
        if self.learn.adds_row:  # validation in the middle of a training pass
            self.after_epoch()

    def after_epoch(self) -> None:
        learn = self.learn
        rows = len(learn.recorder.values)
        if rows > self.logged:
            self.log(row_of(learn), learn.recorder.iters[-1])
            self.logged = rows

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Called with the numbers of each epoch.

        Args:
            metrics: The numbers, by name.
            step: How many training batches the fit has done.
        """
        self.target.log(metrics, step)


class FileLogger(LoggerCallback):
    """Base of loggers to a file, with a line for each epoch, on disk before the epoch's checkpoint.

    Args:
        fname: Relative to the learner's `path`, unless it is absolute.
        append: Keep what the file holds; otherwise the first epoch of a fit starts a new file. A resumed fit has each line once:
            those of the epochs before it are written anew where they are missing, and those of epochs that it repeats are
            dropped. So are those of a fit that was killed before its first checkpoint and starts over (`resume="auto"`).

    Raises:
        CannotSave: A line could not be written.
        BadValue: When a fit begins: the file to append to has different columns.
    """

    transient = ("logged", "columns", "file", "head", "is_restored", "is_ready", "note")
    state_kinds: ClassVar[Kinds] = (("before", Count), ("kept", Count))  # the second of earlier versions

    def __init__(self, fname: str | os.PathLike[str], append: bool = False) -> None:
        self.fname, self.append, self.logged = fname, append, 0
        self.file, self.head = Path(fname), b""
        self.columns: list[str] = []
        self.before = 0  # how many bytes the file held when this fit began
        self.is_restored = self.is_ready = False
        self.note: pathlib.Path | None = None

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.is_restored = True

    def begin(self, columns: list[str]) -> None:
        self.columns = columns
        self.file, self.head, self.is_ready = self._place(), self.header(columns).encode(), False
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.touch()
        except (OSError, ValueError) as error:
            raise CannotSave(
                f"cannot write '{self.file}'", got=error, fix="use another fname, or change the learner's path"
            ) from error
        text = read_whole(self.file) if self.append else b""
        lines = _lines(text)
        if lines and self.head and lines[0].strip() != self.head.strip():
            raise BadValue(
                f"'{self.file}' has different columns",
                got=visible(self.head.decode().strip()),
                expected=visible(lines[0].decode(errors="replace").strip()),
                fix="use another fname",
            )
        if not self.is_restored and self.learn.callbacks.get(ResumedFit) is None:
            whole = b"".join(lines)
            if whole != text:
                commit(self.file, lambda file: file.write(whole))
            self.before = len(whole)
            self._note_start()

    def _note_start(self) -> None:
        """Write beside the checkpoints where this fit begins in the file, or find there where a killed attempt at it began."""
        checkpoint = self.learn.callbacks.get(Checkpoint)
        if checkpoint is None or not self.append:
            return
        name = hashlib.sha256(str(self.fname).encode()).hexdigest()[:12]
        self.note = checkpoint.place / f".layered-log-{name}-fit{self.learn.fit_ordinal}"
        if checkpoint.starts_over and (text := read_whole(self.note, missing_ok=True)[:20]).isdigit():
            self.before = min(int(text), self.before)
            self.is_restored = True
        commit(self.note, lambda file: file.write(b"%d" % self.before))

    def on_end(self) -> None:
        if self.note is not None and self.learn.error is None:
            with saving(self.note):
                self.note.unlink(missing_ok=True)
        self.note = None

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Write one line.

        Args:
            metrics: The numbers of an epoch, by name.
            step: How many training batches the fit has done.
        """
        if not self.is_ready:
            self._prepare(1)
        append_line(self.file, self.line(metrics, step).encode(), sync=True)

    def after_fit(self) -> None:
        if self.is_restored:
            self._prepare(0)

    def catch_up(self) -> None:
        if rank_and_world()[0] == 0:
            self.begin(columns_of(self.learn))
            self._prepare(0)

    def _prepare(self, due: int) -> None:
        """Put into the file a header, what it held before, and the lines of the rows that the table has but the last `due`."""
        recorder, epoch = self.learn.recorder, self.learn.epoch
        done = list(zip(recorder.epochs, recorder.values, recorder.iters, strict=True))
        names = columns_of(self.learn)[1:]
        own = [
            self.line({"epoch": number, **dict(zip(names, values, strict=True))}, batches).encode()
            for number, values, batches in done[: len(done) - due]
        ]
        found = read_whole(self.file, missing_ok=True)
        text = found if self.append else b""
        before, rest = text[: self.before] or self.head, _lines(text[self.before :])
        lines, later = self._completed(own, [line for line in rest if line != self.head])
        if self.is_restored and due:
            while later and self.epoch_of(later[0]) in (epoch, epoch + 1):  # this fit repeats it
                epoch = self.epoch_of(later.pop(0))
        whole = b"".join([before, *lines, *later])
        if whole != found:
            commit(self.file, lambda file: file.write(whole))
        self.is_restored, self.is_ready = False, True

    def _completed(self, own: list[bytes], found: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """The lines of a file, where other fits may have written too, with all `own` in their order; and those after them."""
        lines, due, present = list[bytes](), deque(own), set(found)
        for i, line in enumerate(found):
            if not due:
                return lines, found[i:]
            if line in due:
                while (one := due.popleft()) != line:
                    lines.append(one)
            elif self.epoch_of(line) == self.epoch_of(due[0]) and due[0] not in present:  # changed by hand
                line = due.popleft()
            elif due[0] not in present and self.epoch_of(line) == self.epoch_of(own[-1]) + 1:
                return [*lines, *due], found[i:]
            lines.append(line)
        return [*lines, *due], []

    @abstractmethod
    def line(self, metrics: Mapping[str, Any], step: int) -> str:
        """One epoch as a line.

        Args:
            metrics: The numbers, by name.
            step: How many training batches the fit has done.
        """

    @abstractmethod
    def epoch_of(self, line: bytes) -> int:
        """The epoch of a line; -1 for a header, and for what is not a line of this logger.

        Args:
            line: A line of the file.
        """

    def header(self, columns: list[str]) -> str:
        """The first line of the file, if it has one.

        Args:
            columns: The names of the numbers.
        """
        return ""

    def _place(self) -> Path:
        return real_path(self.learn.path, self.fname)

    def _existing(self) -> Path:
        path = self._place() if self._learn is not None else joined(self.file)
        if not path.exists():
            raise NotFoundPath(f"'{path}' does not exist", fix="run a fit, which writes it")
        return path


def _lines(text: bytes) -> list[bytes]:
    """The whole lines of a text, without what a crash has cut off or left as zeros."""
    lines = [line for line in text.splitlines(keepends=True) if line.endswith(b"\n")]
    return [line for line in lines if b"\0" not in line]


class CSVLogger(FileLogger):
    """Writes the row of each epoch to a CSV file, below a header: the columns that the table has when the fit begins.

    Args:
        fname: See `FileLogger`.
        append: See `FileLogger`.

    Raises:
        BadValue: When a fit begins: the file to append to has different columns.
    """

    state_kinds = ()

    def __init__(self, fname: str | os.PathLike[str] = "history.csv", append: bool = False) -> None:
        super().__init__(fname, append)

    def line(self, metrics: Mapping[str, Any], step: int) -> str:
        values = [metrics.get(name) for name in self.columns]
        return _csv_line(["" if value is None else value for value in values])

    def header(self, columns: list[str]) -> str:
        return _csv_line(columns)

    def epoch_of(self, line: bytes) -> int:
        first = line.partition(b",")[0]
        return int(first) if first.isdigit() else -1

    def read_log(self) -> Any:
        """The content of the file as a DataFrame.

        Raises:
            NotFoundPath: The file does not exist yet.
            BadFile: Something else was written to it.
        """
        return read_csv(self._existing(), ",")


class JSONLogger(FileLogger):
    """Writes the row of each epoch as a JSON object on a line.

    Each object has the `step` (training batches done) too. Numbers that are not finite are null.

    Args:
        fname: See `FileLogger`.
        append: See `FileLogger`.
    """

    state_kinds = ()

    def __init__(self, fname: str | os.PathLike[str] = "history.jsonl", append: bool = False) -> None:
        super().__init__(fname, append)

    def line(self, metrics: Mapping[str, Any], step: int) -> str:
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}
        return json.dumps({"step": step, **finite}, default=str) + "\n"

    def epoch_of(self, line: bytes) -> int:
        try:
            return int(json.loads(line)["epoch"])
        except (ValueError, TypeError, LookupError, RecursionError):
            return -1

    def read_log(self) -> list[dict[str, Any]]:
        """The content of the file: a dict for each epoch.

        Raises:
            NotFoundPath: The file does not exist yet.
            BadFile: Something else was written to it.
        """
        file = self._existing()
        lines = read_whole(file).splitlines()
        return [_row(line, f"line {number} of '{file}'") for number, line in enumerate(lines, 1)]


def _row(line: bytes, what: str) -> dict[str, Any]:
    row = parse_json(line, what)
    if not isinstance(row, dict) or type(row.get("epoch")) is not int:
        raise BadFile(
            f"{what} was not written by a logger of fits",
            got=f"{row!r:.80}",
            fix="use another fname, or delete the file",
        )
    return row


def _csv_line(cells: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()

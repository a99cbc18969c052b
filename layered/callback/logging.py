"""Logging the numbers of each epoch to anything with a `log(metrics, step)`; CSV and JSON lines files are built in."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from layered.files import append_line, commit
from layered.foundation import BadValue, CannotSave, NotFoundPath, Path, lazy, rank_and_world, unknown_name
from layered.loop import AbstractLoop, Callback, Count, Kinds, length_of, valid_of

pd = lazy("pandas")


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
    """Refuse to watch a column that the table lacks, or that stays empty because there is no validation data.

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
            the fit has done.

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
            self.log(row_of(learn), learn.train_iter)
            self.logged = rows

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Called with the numbers of each epoch.

        Args:
            metrics: The numbers, by name.
            step: How many training batches the fit has done.
        """
        self.target.log(metrics, step)


class FileLogger(LoggerCallback):
    """Base of loggers to a file, with a line for each epoch.

    Args:
        fname: Relative to the learner's `path`, unless it is absolute.
        append: Keep what the file holds; otherwise the first epoch of a fit starts a new file. A resumed fit keeps the lines of
            the epochs before it, and drops those of epochs that it repeats. (A fit killed before its first checkpoint starts
            over: its lines then count as what the file holds.)

    Raises:
        CannotSave: A line could not be written.
        BadValue: When a fit begins: the file to append to has different columns.
    """

    transient = ("logged", "file", "head", "is_restored")
    state_kinds: ClassVar[Kinds] = (("kept", Count),)

    def __init__(self, fname: str | os.PathLike[str], append: bool = False) -> None:
        self.fname, self.append, self.logged = fname, append, 0
        self.file, self.head = Path(fname), ""
        self.kept, self.is_restored = 0, False  # `kept`: bytes of the file whose epochs will not be repeated

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.is_restored = True

    def begin(self, columns: list[str]) -> None:
        self.file, self.head = Path(self.learn.path / self.fname), self.header(columns)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.touch()
        except OSError as error:
            raise CannotSave(
                f"cannot write '{self.file}'", got=error, fix="use another fname, or change the learner's path"
            ) from error
        lines = self._lines() if self.append else []
        if lines and self.head and lines[0] != self.head:
            raise BadValue(
                f"'{self.file}' has different columns",
                got=self.head.strip(),
                expected=lines[0].strip(),
                fix="use another fname",
            )
        if not (self.append and self.is_restored):
            self.kept = len("".join(lines).encode())

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Write one line.

        Args:
            metrics: The numbers of an epoch, by name.
            step: How many training batches the fit has done.
        """
        if not self.logged:
            self._prepare()
        append_line(self.file, self.line(metrics, step).encode())
        self.kept = self.file.stat().st_size

    def _prepare(self) -> None:
        """Keep in the file a header, what it held before, and the epochs of a resumed fit that are not repeated."""
        text, epoch = self.file.read_bytes()[: self.kept], self.learn.epoch
        lines = self._lines(self.kept) if self.append else []
        while self.is_restored and lines and self.epoch_of(lines[0]) in (epoch, epoch + 1):  # this fit repeats it
            epoch = self.epoch_of(lines.pop(0))
        text = text + "".join(lines).encode() or self.head.encode()
        commit(self.file, lambda file: file.write(text))
        self.is_restored = False

    def _lines(self, begin: int = 0) -> list[str]:
        """The whole lines of the file from byte `begin` on, without one that a crash cut off."""
        lines = self.file.read_bytes()[begin:].decode().splitlines(keepends=True)
        return [line for line in lines if line.endswith("\n")]

    @abstractmethod
    def line(self, metrics: Mapping[str, Any], step: int) -> str:
        """One epoch as a line.

        Args:
            metrics: The numbers, by name.
            step: How many training batches the fit has done.
        """

    @abstractmethod
    def epoch_of(self, line: str) -> int:
        """The epoch of a line; -1 for a header.

        Args:
            line: A line of the file.
        """

    def header(self, columns: list[str]) -> str:
        """The first line of the file, if it has one.

        Args:
            columns: The names of the numbers.
        """
        return ""

    def _existing(self) -> Path:
        path = Path(self.learn.path / self.fname) if self._learn is not None else self.file
        if not path.exists():
            raise NotFoundPath(f"'{path}' does not exist", fix="run a fit, which writes it")
        return path


class CSVLogger(FileLogger):
    """Writes the row of each epoch to a CSV file, below a header.

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
        return _csv_line(["" if value is None else value for value in metrics.values()])

    def header(self, columns: list[str]) -> str:
        return _csv_line(columns)

    def epoch_of(self, line: str) -> int:
        first = line.partition(",")[0]
        return int(first) if first.isdigit() else -1

    def read_log(self) -> Any:
        """The content of the file as a DataFrame."""
        return pd.read_csv(self._existing())


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

    def epoch_of(self, line: str) -> int:
        return int(json.loads(line)["epoch"])

    def read_log(self) -> list[dict[str, Any]]:
        """The content of the file: a dict for each epoch."""
        return [json.loads(line) for line in self._existing().read_text("utf-8").splitlines()]


def _csv_line(cells: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()

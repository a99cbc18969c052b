"""Experiment trackers by name, through `accelerate.tracking`: what starts, continues and ends a run of each."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from layered.foundation import CannotTrain, MissingDependency, lazy, masked, require, unknown_name

mlflow, wandb = lazy("mlflow"), lazy("wandb")
_EXTRA = "trackers"
_FAILED = ("error",)  # every other end than this and "finished" is an interruption


@runtime_checkable
class Tracker(Protocol):
    """What a tracker of `accelerate` can do: its own, and those that users derive from `GeneralTracker`."""

    name: str

    def start(self) -> None: ...

    def store_init_configuration(self, values: dict[str, Any]) -> None: ...

    def log(self, values: dict[str, Any], step: int | None = None) -> None: ...

    def finish(self) -> None: ...


def _nothing(_: object = None) -> Any:
    return None


def _finish(tracker: Any, _: str) -> None:
    tracker.finish()


def _end_tensorboard(tracker: Any, end: str) -> None:
    tracker.tracker.add_text("end", end)
    tracker.finish()


def _end_wandb(tracker: Any, end: str) -> None:
    tracker.tracker.summary["end"] = end
    tracker.tracker.finish(exit_code=0 if end == "finished" else 1)


def _end_mlflow(_: object, end: str) -> None:
    status = "FINISHED" if end == "finished" else "FAILED" if end in _FAILED else "KILLED"
    mlflow.set_tag("end", end)
    mlflow.end_run(status)


@dataclass(frozen=True)
class Media:
    """What is not a number.

    Args:
        value: A text, or the pixels of a picture [height, width, 3] as bytes.
    """

    value: Any


def _media_tensorboard(tracker: Any, name: str, value: Any, step: int) -> None:
    if isinstance(value, str):
        tracker.log({name: value}, step=step)
    else:
        tracker.log_images({name: value[None]}, step=step, dataformats="NHWC")


def _media_image(package: str) -> Callable[[Any, str, Any, int], None]:
    def send(tracker: Any, name: str, value: Any, step: int) -> None:
        image = lazy(package).Image
        tracker.log({name: value if isinstance(value, str) else image(value)}, step=step)

    return send


def _media_mlflow(_: object, name: str, value: Any, step: int) -> None:
    if isinstance(value, str):
        mlflow.log_text(value, f"{name}/{step:08d}.txt")
    else:
        mlflow.log_image(value, f"{name}/{step:08d}.png")


@dataclass(frozen=True)
class Service:
    """What trackers do each in their own way, where `accelerate` says nothing.

    Args:
        package: What has to be installed, if it is not called as the tracker.
        run_id: The id of the run that a started tracker writes.
        continuing: The settings that continue the run of an id; None for a tracker that cannot.
        current: The run that the script itself has open, if any.
        attribute: Where the tracker keeps its run.
        end: Ends a run and notes how.
        media: Sends a text or a picture; None for a tracker that takes none.
    """

    package: str = ""
    run_id: Callable[[Any], Any] = _nothing
    continuing: Callable[[str], dict[str, Any]] | None = None
    current: Callable[[], Any] = _nothing
    attribute: str = ""
    end: Callable[[Any, str], None] = _finish
    media: Callable[[Any, str, Any, int], None] | None = None


SERVICES: dict[str, Service] = {
    "tensorboard": Service(
        run_id=lambda t: Path(t.logging_dir).name,
        continuing=lambda _: {},
        end=_end_tensorboard,
        media=_media_tensorboard,
    ),
    "wandb": Service(
        run_id=lambda t: t.tracker.id,
        continuing=lambda run: {"id": run, "resume": "allow"},
        current=lambda: wandb.run,
        attribute="run",
        end=_end_wandb,
        media=_media_image("wandb"),
    ),
    "mlflow": Service(
        run_id=lambda t: t.tracker.info.run_id,
        continuing=lambda run: {"run_id": run},
        current=lambda: mlflow.active_run(),
        attribute="active_run",
        end=_end_mlflow,
        media=_media_mlflow,
    ),
    "trackio": Service(
        run_id=lambda t: t.tracker.name,
        continuing=lambda run: {"name": run, "resume": "allow"},
        media=_media_image("trackio"),
    ),
    "swanlab": Service(run_id=lambda t: t.tracker.id, continuing=lambda run: {"id": run, "resume": "allow"}),
    "comet_ml": Service(run_id=lambda t: t.tracker.get_key(), continuing=lambda run: {"experiment_key": run}),
    "aim": Service(run_id=lambda t: t.tracker.hash, continuing=lambda run: {"run_hash": run}),
    "clearml": Service(run_id=lambda t: t.task.id, continuing=lambda run: {"continue_last_task": run}),
    "dvclive": Service(run_id=lambda t: Path(t.tracker.dir).name, continuing=lambda _: {"resume": True}),
}


def check_tracker(name: str) -> None:
    """Refuse the name of a tracker that does not exist, or whose package is not installed.

    Args:
        name: Such as "wandb".

    Raises:
        UnknownName: With the nearest name.
        MissingDependency: With what to install.
    """
    classes = _classes(name)
    if name not in classes:
        raise unknown_name("tracker", name, {*classes, *FILES})
    package = SERVICES.get(name, Service()).package or name
    if name in SERVICES and importlib.util.find_spec(package) is None:
        raise MissingDependency(f"the tracker '{name}' needs the package '{package}'", fix=f"pip install {package}")


FILES = ("csv", "json")
"""Names of loggers to files, which need no package."""


def _classes(name: str) -> Mapping[str, Any]:
    classes: Mapping[str, Any] = require(
        "accelerate.tracking", extra=_EXTRA, why=f"the tracker '{name}'"
    ).LOGGER_TYPE_TO_CLASS
    return classes


@dataclass
class OpenRun:
    """A run that is being written.

    Args:
        tracker: The tracker of `accelerate`.
        service: Its ways.
        is_own: Whether it is ended here, not by the script that opened it.
        run_id: What continues it; None if nothing does.
        is_new: Whether it has no configuration yet.
    """

    tracker: Tracker
    service: Service
    is_own: bool
    run_id: str | None
    is_new: bool

    def end(self, how: str) -> None:
        """End the run, unless somebody else does.

        Args:
            how: "finished", "error", "interrupted", or the name of a signal.
        """
        if self.is_own:
            self.service.end(self.tracker, how)


def open_run(
    asked: str | Tracker, project: str, folder: Path, run_id: str | None, settings: Mapping[str, Any]
) -> OpenRun:
    """Start a run, or continue one; a run that the script itself has open is written to as it is.

    Args:
        asked: The name of a tracker, or a tracker.
        project: The project, or experiment, that the run belongs to.
        folder: Where trackers that write files put them.
        run_id: The run to continue; None for a new one.
        settings: Further arguments of the tracker.

    Raises:
        CannotTrain: The tracker did not start.
    """
    name = asked if isinstance(asked, str) else asked.name
    accelerate = require("accelerate", extra=_EXTRA, why=f"the tracker '{name}'")
    accelerate.PartialState()  # without which its trackers do not work
    service = SERVICES.get(name, Service()) if isinstance(asked, str) else Service()
    try:
        if isinstance(asked, Tracker):
            return OpenRun(asked, service, is_own=_started(asked), run_id=None, is_new=True)
        tracker = _made(asked, service, project, folder, run_id, settings)
        current = service.current()
        if current is not None:
            setattr(tracker, service.attribute, current)
        else:
            tracker.start()
        found = service.run_id(tracker)
    except Exception as error:
        raise CannotTrain(
            f"the tracker '{name}' could not start",
            got=masked(f"{type(error).__name__}: {error}"),
            fix="see the error above; wandb and comet_ml work without a server as well: WANDB_MODE=offline"
            if name in ("wandb", "comet_ml")
            else "see the error above",
        ) from error
    return OpenRun(tracker, service, is_own=current is None, run_id=found, is_new=run_id is None or found != run_id)


def _started(tracker: Tracker) -> bool:
    """Start a tracker that the user has made, unless it is started already."""
    with suppress(AttributeError):
        if tracker.tracker is not None:  # type: ignore[attr-defined]  # the run, which a tracker has once it is started
            return False
    tracker.start()
    return True


def _made(
    name: str, service: Service, project: str, folder: Path, run_id: str | None, settings: Mapping[str, Any]
) -> Any:
    make, places = _classes(name)[name], []
    continued = service.continuing(run_id) if run_id is not None and service.continuing is not None else {}
    if name == "tensorboard":  # each run is a folder
        project = os.path.join(project, run_id or _new_name(folder / project))
    if make.requires_logging_directory:
        places = [str(folder)]
    return make(project, *places, **{**settings, **continued})


def _new_name(folder: Path) -> str:
    """A name for a new folder in a folder: the time, and a number where that is taken."""
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    names = (now if i == 1 else f"{now}-{i}" for i in range(1, 10_000))
    return next(name for name in names if not (folder / name).exists())


RUN_ID = re.compile(r"\w[\w.:-]{0,127}", re.ASCII).fullmatch
"""Whether a text from a file may be the id of a run, which can become the name of a folder."""


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dicts and lists by their paths, as trackers take them.

    Args:
        tree: Of values that JSON has.
        prefix: Of the names.

    Examples:
        >>> flat({"model": {"class": "Linear"}, "lr": [0.1, None]})
        {'model/class': 'Linear', 'lr/0': 0.1}
    """
    if isinstance(tree, (dict, list)):
        parts = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {
            k: v for name, part in parts for k, v in flat(part, f"{prefix}/{name}" if prefix else f"{name}").items()
        }
    return {} if tree is None else {prefix: tree}

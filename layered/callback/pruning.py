"""Ending the trials of a search that are not worth finishing."""

from __future__ import annotations

from typing import Any, ClassVar

from layered.callback.progress import say
from layered.callback.tracking import TrackerCallback
from layered.foundation import BadArgument, BadValue, require
from layered.loop import CancelFitException, Count, Kinds, any_process


class OptunaPruner(TrackerCallback):
    """Reports a column of the table to a trial of Optuna after each epoch, and ends the fit if the study prunes the trial.

    The fit ends as with early stopping, so that the learner is whole (the best weights are loaded, averages are in place), and
    then `optuna.TrialPruned` is raised. Otherwise return `best`, the best value that was reported, from the objective. Several
    fits of one trial, as in `fine_tune`, count their epochs on; several processes end together.

    Args:
        trial: What the objective is called with; None in processes to which the study gives none.
        monitor: Name of the column.

    Raises:
        BadArgument: `trial` is not a trial of Optuna.
        MissingDependency: Optuna is not installed.
        BadValue: When a fit begins: the study minimizes where larger values are better, or the reverse.
        TrialPruned: When a fit ends that was pruned.

    Examples:
        >>> import optuna
        >>> from layered.testing.tiny import synth_learner
        >>> learn, pruner = synth_learner(), OptunaPruner(optuna.trial.FixedTrial({}))
        >>> with learn.no_bar(), learn.no_logging(): learn.fit(2, cbs=pruner)
        >>> pruner.best == min(loss for _, loss in learn.recorder.values)
        True
    """

    order = 64
    transient: ClassVar[tuple[str, ...]] = ("comp", "is_pruned")
    state_kinds: ClassVar[Kinds] = (("reported", Count),)

    def __init__(self, trial: Any, monitor: str = "valid_loss") -> None:
        trials = require("optuna", extra="search", why="OptunaPruner").trial
        if trial is not None and not isinstance(trial, trials.BaseTrial):
            raise BadArgument(
                "not a trial of Optuna", got=repr(trial), expected="the argument that Optuna calls the objective with"
            )
        directions = [d.name for d in trial.study.directions] if isinstance(trial, trials.Trial) else []
        self.direction = directions[0].lower() if len(directions) == 1 else None  # of several it reports none
        super().__init__(monitor, self.direction and self.direction[:3], reset_on_fit=False)
        self.trial, self.reported, self.is_pruned = trial, 0, False

    def before_fit(self) -> None:
        self.is_pruned = False
        super().before_fit()
        upwards = self.learn.recorder.higher_is_better(self.monitor) if self.run else None
        if self.direction is not None and upwards is not None and upwards != (self.direction == "maximize"):
            raise BadValue(
                f"the study would prune the best trials: it is to {self.direction} '{self.monitor}'",
                expected=f"{'larger' if upwards else 'smaller'} values to be better",
                fix=f"optuna.create_study(direction='{'maximize' if upwards else 'minimize'}')",
            )

    def look(self) -> bool:
        if not super().look():
            return False
        if self.trial is not None:
            self.trial.report(self.value, self.reported)
        self.reported += 1
        self.is_pruned = any_process(self.trial is not None and self.trial.should_prune())
        if self.is_pruned:
            say(self.learn, f"Pruned after epoch {self.learn.epoch}, with {self.monitor} {self.value:.6g}")
            raise CancelFitException
        return True

    def on_end(self) -> None:
        if self.is_pruned and self.learn.error is None:
            self.is_pruned = False
            optuna = require("optuna", extra="search", why="OptunaPruner")
            raise optuna.TrialPruned(f"{self.monitor} was {self.value} in epoch {self.learn.epoch}")

    def __repr__(self) -> str:
        return f"OptunaPruner(monitor={self.monitor!r})"

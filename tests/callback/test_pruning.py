"""Trials of a search report what the table shows, end whole, and leave nothing behind."""

import gc
import multiprocessing
import threading
import weakref
from pathlib import Path

import optuna
import pytest
from torch.testing import assert_close

from layered.callback import OptunaPruner, SaveModelCallback
from layered.foundation import BadArgument, BadValue, UnknownName
from layered.loop import Callback
from layered.testing.tiny import synth_learner

optuna.logging.set_verbosity(optuna.logging.ERROR)


def quiet_fit(learn, *args, **kwargs):
    with learn.no_bar(), learn.no_logging():
        learn.fit(*args, **kwargs)


class PruneAt(optuna.pruners.BasePruner):
    def __init__(self, step):
        self.step = step

    def prune(self, study, trial):
        return trial.last_step == self.step


def negative(pred, targ):
    return -(pred - targ).abs().mean()


negative.higher_is_better = True


def test_a_trial_gets_each_row_once_and_the_best_is_returned():
    study = optuna.create_study()
    rows = []

    def objective(trial):
        pruner, learn = OptunaPruner(trial), synth_learner(n_train=4, lr=trial.suggest_float("lr", 0.01, 0.1))
        quiet_fit(learn, 2, cbs=pruner)
        rows.append(learn.recorder.values)
        quiet_fit(learn, 1, cbs=pruner)
        rows[-1] = [loss for _, loss in rows[-1] + learn.recorder.values]
        return pruner.best

    study.optimize(objective, n_trials=2)
    for trial, losses in zip(study.trials, rows, strict=True):
        assert trial.intermediate_values == dict(enumerate(losses))
        assert trial.value == min(losses)


def test_a_pruned_fit_leaves_the_learner_whole(tmp_path):
    study = optuna.create_study(pruner=PruneAt(1))
    done, kept = [], []

    def objective(trial):
        learn = synth_learner(n_train=4, lr=0.3, path=tmp_path)
        mark = Callback(after_fit=lambda cb: done.append(cb.learn.epoch))
        cbs = [OptunaPruner(trial), SaveModelCallback(), mark]
        try:
            quiet_fit(learn, 5, cbs=cbs)
        finally:
            kept.append(learn)

    study.optimize(objective, n_trials=1)
    (learn,) = kept
    assert study.trials[0].state is optuna.trial.TrialState.PRUNED
    assert done == [1]
    assert not learn.fitting
    assert [type(cb).__name__ for cb in learn.cbs] == [type(cb).__name__ for cb in synth_learner().cbs]
    best = min(loss for _, loss in learn.recorder.values)
    assert_close(learn.validate()[0], best)
    quiet_fit(learn, 1)


def test_another_error_is_not_hidden_by_the_pruning():
    study = optuna.create_study(pruner=PruneAt(0))

    def objective(trial):
        def fail(cb):
            raise ZeroDivisionError

        quiet_fit(synth_learner(n_train=2), 2, cbs=[OptunaPruner(trial), Callback(after_fit=fail)])

    with pytest.raises(ZeroDivisionError):
        study.optimize(objective, n_trials=1)


def test_a_study_in_the_wrong_direction_is_refused():
    for direction, monitor in (("minimize", "negative"), ("maximize", "valid_loss")):
        trial = optuna.create_study(direction=direction).ask()
        right = "maximize" if direction == "minimize" else "minimize"
        with pytest.raises(BadValue, match=f"create_study\\(direction='{right}'\\)"):
            quiet_fit(synth_learner(metrics=negative), 1, cbs=OptunaPruner(trial, monitor))
        trial = optuna.create_study(direction=right).ask()
        quiet_fit(synth_learner(metrics=negative), 1, cbs=OptunaPruner(trial, monitor))


def test_what_is_not_a_trial_and_columns_that_do_not_exist_are_refused():
    with pytest.raises(BadArgument, match="not a trial"):
        OptunaPruner(optuna.create_study())
    with pytest.raises(UnknownName, match="valid_loss"):
        quiet_fit(synth_learner(), 1, cbs=OptunaPruner(optuna.create_study().ask(), "val_loss"))


def open_files():
    return {link.resolve() for link in Path("/proc/self/fd").iterdir() if link.exists()}


def test_trials_leave_no_learner_thread_process_or_file_behind(tmp_path):
    study, learners = optuna.create_study(pruner=PruneAt(0)), []

    def objective(trial):
        learn = synth_learner(n_train=4, loggers="tensorboard", path=tmp_path / str(trial.number))
        learners.append(weakref.ref(learn))
        pruner = OptunaPruner(trial) if trial.number % 2 else OptunaPruner(optuna.trial.FixedTrial({}))
        quiet_fit(learn, 2, cbs=pruner)
        return pruner.best

    study.optimize(objective, n_trials=2)
    threads, files = threading.active_count(), open_files()
    study.optimize(objective, n_trials=4)
    gc.collect()
    assert [learner() for learner in learners] == [None] * 6
    assert threading.active_count() == threads
    assert multiprocessing.active_children() == []
    assert open_files() == files
    assert len(study.get_trials(states=[optuna.trial.TrialState.PRUNED])) == 3

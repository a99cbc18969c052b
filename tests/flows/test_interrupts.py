"""Ctrl-C, or another exception, at any line of a verb: the learner is as before, and a further fit is the undisturbed one.

`LAYERED_SEED=… LAYERED_SOAK=1 pytest 'tests/flows/test_interrupts.py::…[fit]'` repeats what was tried with a seed.
"""

import builtins
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
import torch
from counts import SEED, chance, soak
from recipes import small_net
from striking import fail, interrupt, process_kept, state_of, struck

from layered.callback import GradientStats
from layered.foundation import seeds
from layered.vision.all import (
    SAM,
    ActivationStats,
    BnFreeze,
    ChannelsLast,
    Checkpoint,
    CSVLogger,
    CutMix,
    EMACallback,
    GradientAccumulation,
    GradientClip,
    GradualUnfreezing,
    ImageDataLoaders,
    JSONLogger,
    Learner,
    MCDropoutCallback,
    MixedPrecision,
    MixUp,
    OverfitOneBatch,
    ReduceLROnPlateau,
    Resize,
    RunRecord,
    SaveModelCallback,
    ShortEpochCallback,
    SWACallback,
    accuracy,
    aug_transforms,
    load_learner,
    noop,
    set_seed,
    vision_learner,
)

TRIES = soak(3, 300)  # for each verb
STRIKES = {"Ctrl-C": interrupt, "an exception": fail}


def learner(pictures: Path, folder: Path) -> Learner:
    set_seed(3)
    dls = ImageDataLoaders.from_folder(
        pictures, valid_pct=0.25, seed=0, item_tfms=Resize(8), batch_tfms=aug_transforms(size=8), bs=6, num_workers=0,
        device="cpu",
    )  # fmt: skip
    learn = vision_learner(dls, small_net, pretrained=False, metrics=accuracy, path=folder)
    learn.logger = noop
    return learn


def logged(learn: Learner) -> None:
    cbs = [GradientAccumulation(9), CSVLogger(), JSONLogger(append=True), RunRecord(learn.path / "record"),
           SaveModelCallback("train_loss", with_opt=True), MixUp(), ReduceLROnPlateau("train_loss")]  # fmt: skip
    learn.fit(2, 0.01, cbs=cbs, checkpoint=Checkpoint(learn.path / "run", "2 batches"), resume="auto")


def precise(learn: Learner) -> None:
    cbs = [EMACallback(validate=True), BnFreeze(), ChannelsLast(), SAM(), GradientClip(1.0), MixedPrecision("bf16")]
    learn.fit_one_cycle(1, cbs=[*cbs, ActivationStats(with_hist=True)])


def short(learn: Learner) -> None:
    cbs = [
        SWACallback(start=0.2, validate=True),
        GradualUnfreezing("1 batch"),
        ShortEpochCallback(0.5),
        CutMix(),
        OverfitOneBatch(),
    ]
    learn.fit_flat_cos(2, cbs=[*cbs, GradientStats()])


def by_hand(learn: Learner) -> None:
    with learn:
        learn.one_validation(learn.dls.valid)


VERBS: dict[str, Callable[[Learner], object]] = {
    "fit with logs": logged,
    "fit with other precision": precise,
    "fit with short epochs": short,
    "fine_tune": lambda learn: learn.fine_tune(1),
    "validate": lambda learn: learn.validate(),
    "get_preds": lambda learn: learn.get_preds(
        with_loss=True, with_decoded=True, cbs=MCDropoutCallback(), save_preds=learn.path / "p.npy"
    ),
    "stream_preds": lambda learn: list(learn.stream_preds()),
    "predict": lambda learn: learn.predict(learn.dls.valid_ds.items[0]),
    "lr_find": lambda learn: learn.lr_find(num_it=8, show_plot=False),
    "save": lambda learn: learn.save("other"),
    "load": lambda learn: learn.load("kept"),
    "export": lambda learn: learn.export("x"),
    "load_learner": lambda learn: load_learner(learn.path / "exported.layered"),
    "tta": lambda learn: learn.tta(n=1),
    "dry_run": lambda learn: learn.dry_run(),
    "doctor": lambda learn: learn.doctor(),
    "profile": lambda learn: learn.profile(),
    "summary": lambda learn: learn.summary(),
    "a pass by hand": by_hand,
}
TWICE = {"fit with logs"}  # they go on when they are called again


def further_fit(learn: Learner, epochs_started: int) -> list[Any]:
    """What a fit leaves that begins with the weights, the optimizer and the random numbers that were kept."""
    learn.load("kept")
    learn.epochs_started = epochs_started
    set_seed(5)
    learn.fit(1)
    return left(learn)


def left(learn: Learner) -> list[Any]:
    return [learn.recorder.losses, learn.recorder.values, *(x.tolist() for x in learn.model.state_dict().values())]


def test_what_a_verb_leaves_in_the_process_is_gone_for_the_next(learn):
    def leave_all() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        torch.set_anomaly_enabled(True)
        torch.autocast("cpu", torch.bfloat16).__enter__()
        torch.inference_mode().__enter__()
        torch.set_default_dtype(torch.float64)
        builtins.__import__ = noop
        sys.meta_path.insert(0, noop)
        warnings.simplefilter("error")
        warnings.showwarning = noop
        sys.stdout = sys.stderr = None
        seeds._current.set(seeds.Tickets(1))

    before = state_of(learn)
    with process_kept():
        copy_context().run(leave_all)
    assert state_of(learn) == before


@pytest.mark.soak
@pytest.mark.parametrize("name", VERBS)
def test_a_verb_that_is_struck_leaves_the_learner_as_it_was(pictures, tmp_path, name, capsys):
    verb, dice = VERBS[name], chance(f"struck {name}", 0)

    def fresh(number: int) -> tuple[Learner, int]:
        learn = learner(pictures, tmp_path / f"{number}")
        learn.fit(1)
        learn.save("kept")
        if name == "load_learner":
            learn.export("exported")
        learn.model.train()
        return learn, learn.epochs_started

    twin, _ = fresh(-2)
    set_seed(4)
    whole = struck(lambda: verb(twin), -1)
    assert not whole.ended
    done, at_end = left(twin), state_of(twin)
    wanted = further_fit(*fresh(-3))

    def strike(number: int) -> None:
        place = dice.choice(sorted(whole.places))  # lines that run once are struck as often as those of a loop
        at, kind = dice.choice(whole.places[place]), dice.choice(sorted(STRIKES))
        learn, epochs_started = fresh(number)
        before = state_of(learn)
        set_seed(4)
        blow = struck(lambda: verb(learn), at, how=STRIKES[kind])
        if blow.is_cleanup and kind == "an exception":
            return  # nothing can be put back where any line may fail
        after = state_of(learn)
        told = f"seed {SEED}: {kind} at line {at} of {whole.lines}, {blow.place}; it ended with {blow.ended}"
        if name in TWICE and blow.ended and len(list((learn.path / "run").glob("checkpoint-*"))):
            set_seed(4)
            verb(learn)
            assert left(learn) == done, told
        elif not blow.ended or after["modes"] == at_end["modes"]:  # at its end, or when it was done
            before["modes"] = at_end["modes"]
        differing = {part: (before[part], after[part]) for part in before if before[part] != after[part]}
        assert not differing, told
        assert further_fit(learn, epochs_started) == wanted, told
        assert not blow.ended.startswith("AttributeError"), told
        shutil.rmtree(learn.path)

    for number in range(TRIES):
        with process_kept():
            copy_context().run(strike, number)

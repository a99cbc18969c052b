"""`fit`: what is added to a loop, and set, for the length of a fit."""

from __future__ import annotations

import os

from layered.data import length_of
from layered.files import real_path
from layered.foundation import checked, quiet_imports
from layered.loop.alike import check_alike
from layered.loop.batches import check_fit, check_has_items, checked_count
from layered.loop.callback import callbacks_of
from layered.loop.contexts import ShortTraceback, added_cbs, guarded, replaced
from layered.loop.current_opt import use_current_opt
from layered.loop.durations import Duration
from layered.loop.essentials import skipping
from layered.loop.events import FIT
from layered.loop.listeners import Cbs
from layered.loop.lost import naming_lost
from layered.loop.optimizer_parts import Rate, set_spread
from layered.loop.resume.all_fits import of_script
from layered.loop.resume.beginning import checkpoints_of, lock_folders, resuming
from layered.loop.resume.checkpoint import Checkpoint
from layered.loop.resume.description import impersonal
from layered.loop.resume.finding import Resuming
from layered.loop.resume.resumed import skips
from layered.loop.rollback import Rollback
from layered.loop.sharding import callbacks_of_processes
from layered.loop.state import AbstractLoop
from layered.loop.valid_every import validating


@checked
def fit(
    loop: AbstractLoop,
    n_epoch: int,
    lr: Rate | None = None,
    wd: float | None = None,
    cbs: Cbs = None,
    reset_opt: bool = False,
    start_epoch: int = 0,
    *,
    n_iter: int | None = None,
    valid_every: int | str | Duration = 1,
    resume: Resuming = None,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
) -> None:
    """Train for `n_epoch` passes over the training loader, validating after each, or as often as `valid_every` says.

    Args:
        loop: The loop, or learner, to train.
        n_epoch: The number of epochs.
        lr: Learning rate, a number or a slice over the parameter groups, or with several optimizers a dict by name; the
            loop's own if None.
        wd: Weight decay of this fit; the loop's own if None.
        cbs: Callbacks of this fit only.
        reset_opt: Begin with a fresh optimizer.
        start_epoch: Skip the epochs before it.
        n_iter: Batches an epoch, for a training loader without length.
        valid_every: Validate after so many epochs: 2 or "2 epochs"; or in the middle of epochs: "500 batches", each time with
            a row of the table. What has no value in a row is None.
        resume: "auto" resumes from the newest checkpoint in the folder of `checkpoint`; or another folder, or a file.
        checkpoint: A folder, an address such as "s3://bucket/run", or a `Checkpoint`, to write to during this fit.

    Raises:
        BadValue: For arguments out of range, before anything changes.
        EmptySource: If the training loader has no batches.
        CannotTrain: If there is no loss, or a generator is to last for several epochs; or if several processes would train
            different things, or do not divide their batches.
        CannotRestore: If the checkpoint does not fit, before anything changes.
        LostProcess: If another process of the fit has failed, was killed, or does not answer.
    """
    n_epoch, start_epoch = checked_count("n_epoch", n_epoch), checked_count("start_epoch", start_epoch)
    n_iter = None if n_iter is None else checked_count("n_iter", n_iter)
    check_has_items(loop, loop.dls.train)
    check_fit(n_epoch, n_iter, loop.dls.train)
    added = [*callbacks_of(cbs), *skipping(start_epoch), *validating(valid_every)]
    batches = length_of(loop.dls.train) if n_iter is None else n_iter
    arguments = {"n_epoch": n_epoch, "lr": repr(lr), "wd": wd, "cbs": impersonal(repr(added)), "batches": batches}
    check_alike(loop, arguments)
    checkpoint, resume = of_script(loop, checkpoint, resume)
    added += [*checkpoints_of(checkpoint), *callbacks_of_processes(loop)]
    with naming_lost(), lock_folders(loop, added):
        resumed = resuming(loop, resume, added, arguments)
        if skips(loop, resumed):
            return
        with loop.turns.of_pass(fits=True), Rollback(loop), added_cbs(loop, [*added, *resumed]):
            loop.n_epoch, loop.epoch_length = n_epoch, n_iter
            if reset_opt:
                loop.create_opt()
            else:
                use_current_opt(loop)
            for cb in resumed:
                cb.check()
            set_spread(loop.opt, "lr", loop.lr if lr is None else lr)
            if (wd := loop.wd if wd is None else wd) is not None:
                set_spread(loop.opt, "wd", wd)
            loop.fit_arguments, loop.fitting = arguments, True
            loop.fit_ordinal += 1  # taken back if the fit fails: it may then be called again, to resume
            with quiet_imports(), replaced(loop, "path", real_path(loop.path)), guarded(loop), ShortTraceback():
                if not any(cb.restores_end() for cb in resumed):
                    loop.within(FIT, loop.all_epochs)

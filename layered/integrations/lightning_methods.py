"""Which methods of Lightning's classes a class has of its own, and how those that prepare it are called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from layered.foundation import BadArgument, CannotTrain, launched, rank_and_world
from layered.loop import gathered

STEPS = {"training_step", "validation_step", "predict_step", "forward"}
CALLED = {
    "on_fit_start", "on_train_start", "on_train_epoch_start", "on_train_batch_start", "on_before_zero_grad",
    "on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_train_batch_end", "on_validation_start",
    "on_validation_epoch_start", "on_validation_batch_start", "on_validation_batch_end", "on_validation_epoch_end",
    "on_validation_end", "on_train_epoch_end", "on_train_end", "on_fit_end",
}  # fmt: skip
LEFT_OUT = {
    "backward", "configure_callbacks", "configure_gradient_clipping", "lr_scheduler_step", "on_after_batch_transfer",
    "on_before_batch_transfer", "on_load_checkpoint", "on_save_checkpoint", "on_validation_model_eval",
    "on_validation_model_train", "on_validation_model_zero_grad", "optimizer_step", "optimizer_zero_grad",
    "transfer_batch_to_device",
}  # fmt: skip


def lightning_base(o: object, name: str = "LightningModule") -> type | None:
    """The class of Lightning that an object derives from, in either package; None for other objects.

    Args:
        o: Any object.
        name: The class: "LightningModule" or "LightningDataModule".
    """
    packages = ("lightning", "pytorch_lightning")
    bases = (kind for kind in type(o).__mro__ if kind.__name__ == name)
    return next((kind for kind in bases if kind.__module__.partition(".")[0] in packages), None)


def own_methods(o: Any, names: Iterable[str]) -> set[str]:
    """Which of some methods an object of Lightning's defines, in its class or on itself.

    Args:
        o: A LightningModule or a LightningDataModule.
        names: The names of the methods.
    """
    base = lightning_base(o) or lightning_base(o, "LightningDataModule")
    return {name for name in names if name in vars(o) or getattr(type(o), name, None) is not getattr(base, name, None)}


def set_up(o: Any) -> None:
    """Call `prepare_data`, in one process of each machine or of all, and then `setup("fit")`.

    Args:
        o: A LightningModule or a LightningDataModule.

    Raises:
        CannotTrain: The data could not be prepared in another process.
    """
    own = own_methods(o, ("prepare_data", "setup"))
    if "prepare_data" in own:
        rank, world = rank_and_world()
        found = launched()
        of_machine = rank if found is None else found.local_rank
        error = None
        if (of_machine if getattr(o, "prepare_data_per_node", True) else rank) == 0:
            try:
                o.prepare_data()
            except Exception as failure:
                error = failure
        problems = gathered(None if error is None else str(error)) if world > 1 else []
        if error is not None:
            raise error
        for process, problem in enumerate(problems):
            if problem is not None:
                raise CannotTrain(f"prepare_data of {type(o).__name__} failed in process {process}", got=problem)
    if "setup" in own:
        o.setup("fit")


def check_trainable(module: Any, own: set[str]) -> None:
    """Refuse a LightningModule that a learner cannot train by its methods.

    Args:
        module: The LightningModule.
        own: Which methods it defines.

    Raises:
        BadArgument: It optimizes by hand, or has no `training_step`.
    """
    name = type(module).__name__
    if not module.automatic_optimization:
        raise BadArgument(
            f"{name} optimizes by hand, which is for Lightning's Trainer",
            got="automatic_optimization = False",
            fix="a step in place of training_step: Learner(dls, model, opt_func={'gen': 'adam', 'critic': 'adam'}, step=step), "
            "which calls loop.minimize(loss, 'gen') for each loss: see docs/other_models.md",
        )
    if "training_step" not in own:
        raise BadArgument(
            f"{name} has no training_step",
            fix="def training_step(self, batch, batch_idx): …; or a loss for the learner: Learner(dls, model, loss_func=…)",
        )


@lru_cache(maxsize=256)
def positions_taken(function: Callable[..., Any], most: int) -> int:
    """How many of so many arguments a method takes by position.

    Args:
        function: The function of the method.
        most: The number of arguments.
    """
    parameters = list(inspect.signature(function).parameters.values())[1:]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return most
    return min(most, sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters))

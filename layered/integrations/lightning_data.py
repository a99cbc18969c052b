"""The loaders of a LightningDataModule, or of a LightningModule that brings its own."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from layered.data import DataLoaders
from layered.foundation import BadArgument, describe, warn
from layered.integrations.lightning_methods import lightning_base, own_methods, set_up
from layered.integrations.lightning_trainer import FitView
from layered.loop import AbstractLoop

LEFT_OUT = {
    "load_state_dict", "on_after_batch_transfer", "on_before_batch_transfer", "on_exception", "state_dict",
    "transfer_batch_to_device",
}  # fmt: skip


class LightningLoaders(DataLoaders):
    """What `train_dataloader` and `val_dataloader` of an object return.

    Its `teardown("fit")` is called once the loaders are no longer used, or at the end of the program.

    Args:
        source: A LightningDataModule or a LightningModule that has been set up.
        own: Which of its methods it defines.
        model: The model to train.

    Attributes:
        source: That object.
        datamodule: The same if it is a LightningDataModule, else None.

    Raises:
        BadArgument: A method returns what is not one loader.
    """

    def __init__(self, source: Any, own: set[str], model: nn.Module) -> None:
        train = _only_loader(source, "train_dataloader")
        valid = _only_loader(source, "val_dataloader") if "val_dataloader" in own else None
        if train is None:
            raise BadArgument(
                f"train_dataloader of {type(source).__name__} returned no loader", expected="a DataLoader"
            )
        super().__init__(train, *([] if valid is None else [valid]))
        self.source = source
        self.datamodule = None if source is model else source
        if "teardown" in own:
            weakref.finalize(self, source.teardown, "fit")


@dataclass
class NotBegun:
    """A fit before it begins, for the trainer that an object sees while it is set up.

    Args:
        learn: The learner.
    """

    learn: AbstractLoop
    steps: int = 0
    watched: dict[str, float] = field(default_factory=dict)
    optimizer: Any = None


def adopt_data(loop: AbstractLoop, dls: Any) -> Any:
    """The loaders of a LightningDataModule, or without loaders those of a LightningModule; anything else as it is.

    As Lightning's Trainer does, it calls `prepare_data`, `setup("fit")`, `train_dataloader` and `val_dataloader`, each once.

    Args:
        loop: The learner, which has its model.
        dls: What the learner was given as its loaders.

    Raises:
        BadArgument: The object has no `train_dataloader`, or several validation loaders.
    """
    source: Any = loop.model if dls is None else dls
    if lightning_base(source, "LightningModule" if dls is None else "LightningDataModule") is None:
        return dls
    own = own_methods(source, ("train_dataloader", "val_dataloader", "teardown", *LEFT_OUT))
    name = type(source).__name__
    if "train_dataloader" not in own:
        fix = "def train_dataloader(self): …"
        raise BadArgument(
            f"{name} has no train_dataloader",
            fix=fix if source is dls else f"{fix}; or Learner((train_loader, valid_loader), model)",
        )
    if source is dls and (left := sorted(own & LEFT_OUT)):
        warn(f"{name} defines {', '.join(left)}, which a learner does not call")
    before = source.trainer if source is dls else None
    source.trainer = FitView(NotBegun(loop))
    try:
        set_up(source)
        return LightningLoaders(source, own, loop.model)
    finally:
        source.trainer = before


def _only_loader(source: Any, name: str) -> Any:
    """What a method returns; of a list with one loader, that one."""
    loaders = getattr(source, name)()
    if isinstance(loaders, (list, tuple)) and len(loaders) < 2:
        return loaders[0] if loaders else None
    if isinstance(loaders, (list, tuple, Mapping)):
        own = "data" if lightning_base(source) is None else "model"
        first = "[0]" if not isinstance(loaders, Mapping) else f"[{next(iter(loaders))!r}]"
        raise BadArgument(
            f"{name} of {type(source).__name__} returned {len(loaders)} loaders, and a learner {_USES[name]}",
            got=describe(loaders),
            fix=f"let it return one; or {own}.prepare_data(); {own}.setup('fit'); "
            f"Learner(({own}.train_dataloader(){first if name == 'train_dataloader' else ''}, "
            f"{own}.val_dataloader(){first if name == 'val_dataloader' else ''}), model)"
            + ("; the others by learn.validate(dl=…)" if name == "val_dataloader" else ""),
        )
    return loaders


_USES = {"train_dataloader": "trains on one", "val_dataloader": "validates on one in a fit"}

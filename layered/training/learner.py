"""The `Learner`: a training loop with the verbs that people use, each a function that can be used alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from layered.callback.progress import ProgressCallback
from layered.callback.rate_finder import lr_find
from layered.callback.schedule import fit_flat_cos, fit_one_cycle, fit_sgdr
from layered.foundation.helpers import defaults
from layered.foundation.tensors import plain_tree
from layered.foundation.tree import to_device
from layered.loop.batches import split_batch
from layered.loop.loop import ESSENTIAL_CALLBACKS, Loop
from layered.loop.recorder import Recorder
from layered.nn.summary import Summary, module_summary
from layered.training.export import export
from layered.training.inference import get_preds, predict, show_results
from layered.training.tuning import fine_tune, freeze_to

defaults.callbacks = [*ESSENTIAL_CALLBACKS, ProgressCallback]


class Learner(Loop):
    """A model, its data, a loss and an optimizer, with everything to train, look at, predict and export.

    The arguments are those of `Loop`. By default it has the callbacks of `defaults.callbacks`: the loop's own and the
    progress bar.

    >>> import torch; from torch import nn; from torch.utils.data import TensorDataset
    >>> from layered.data.loader_set import DataLoaders
    >>> x = torch.randn(64, 3); dls = DataLoaders.from_dsets(TensorDataset(x, x.sum(1)), TensorDataset(x, x.sum(1)), bs=16)
    >>> learn = Learner(dls, nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)), loss_func=nn.MSELoss())
    >>> with learn.no_bar(), learn.no_logging(): learn.fit(1, lr=0.1)
    """

    recorder: Recorder
    recipe: dict[str, Any] | None = None  # the registered builder of the model and its arguments, for export

    fit_one_cycle = fit_one_cycle
    fit_flat_cos = fit_flat_cos
    fit_sgdr = fit_sgdr
    fine_tune = fine_tune
    freeze_to = freeze_to
    lr_find = lr_find
    get_preds = get_preds
    predict = predict
    show_results = show_results
    export = export

    def default_callbacks(self) -> Sequence[Any]:
        """What `default_cbs=True` adds: `defaults.callbacks`."""
        return list(defaults.callbacks)

    def freeze(self) -> None:
        """Let only the last parameter group learn."""
        self.freeze_to(-1)

    def unfreeze(self) -> None:
        """Let all parameter groups learn."""
        self.freeze_to(0)

    def summary(self) -> Summary:
        """The model's layers with output shapes and parameters, for one batch of the training data."""
        batch = to_device(self.dls.one_batch(), next(self.model.parameters()).device)
        xb, _ = split_batch(plain_tree(batch), getattr(self.dls, "n_inp", None), self.model)
        return module_summary(self.model, *xb)

    def to(self, device: Any) -> Self:
        """Model and loaders on `device`."""
        self.model.to(device)
        if hasattr(self.dls, "to"):
            self.dls.to(device)
        return self

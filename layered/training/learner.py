"""The `Learner`: a training loop with the verbs that people use, each a function that can be used alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypedDict

from torch import Tensor, nn

from layered.callback import (
    ProgressCallback,
    compile_model,
    dry_run,
    fit_flat_cos,
    fit_one_cycle,
    fit_sgdr,
    lr_find,
    overfit,
    to_bf16,
    to_channelslast,
    to_contiguous,
    to_fp16,
    to_fp32,
    uncompile,
)
from layered.foundation import defaults, find_device, plain_tree, to_device
from layered.inference import get_preds, predict, show_results, stream_preds, tta
from layered.insight import doctor, grad_cam, profile, show_grad_cam
from layered.loop import ESSENTIAL_CALLBACKS, Callback, Loop, Recorder, split_batch
from layered.nn import Summary, module_summary
from layered.training.export import export
from layered.training.tuning import fine_tune, freeze_to

defaults.callbacks = [*ESSENTIAL_CALLBACKS, ProgressCallback]


class LearnerArgs(TypedDict, total=False):
    """What every learner takes by keyword besides its data and its model; meanings and defaults are those of `Learner`.

    A function that makes a learner says `**learner_args: Unpack[LearnerArgs]`, and `@delegates(Learner)` lists them.
    """

    loss_func: Callable[..., Any] | None
    opt_func: Callable[..., Any] | Mapping[str, Callable[..., Any]]
    lr: float | slice
    splitter: Callable[[nn.Module], Any]
    cbs: Callback | type[Callback] | Sequence[Callback | type[Callback] | None] | None
    metrics: Callable[..., Any] | Sequence[Callable[..., Any]] | None
    path: str | os.PathLike[str] | None
    model_dir: str | os.PathLike[str]
    wd: float | None
    wd_bn_bias: bool
    train_bn: bool
    moms: tuple[float, float, float] | None
    default_cbs: bool | Sequence[Callback | type[Callback]]
    step: Callable[[Any, Any], Any] | None
    seed: int | None


class Learner(Loop):
    """A model, its data, a loss and an optimizer, with everything to train, look at, predict and export.

    The arguments are those of `Loop`. By default it has the callbacks of `defaults.callbacks`: the loop's own and the
    progress bar.

    Examples:
        >>> import torch; from torch import nn; from torch.utils.data import TensorDataset
        >>> from layered.data.data_loaders import DataLoaders
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
    dry_run = dry_run
    overfit = overfit
    to_fp16 = to_fp16
    to_bf16 = to_bf16
    to_fp32 = to_fp32
    to_channelslast = to_channelslast
    to_contiguous = to_contiguous
    compile = compile_model
    uncompile = uncompile
    get_preds = get_preds
    stream_preds = stream_preds
    tta = tta
    predict = predict
    show_results = show_results
    grad_cam = grad_cam
    show_grad_cam = show_grad_cam
    export = export
    profile = profile
    doctor = doctor

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
        """The model's layers with shapes, parameters, cost and parameter group, for one batch of the training data."""
        batch = self.dls.one_batch()
        device = find_device(list(self.model.parameters()))
        batch = plain_tree(batch if device is None else to_device(batch, device))
        xb, _ = split_batch(batch, getattr(self.dls, "n_inp", None), self.model)
        groups: Any = self.opt.param_lists if self.opt is not None else self.splitter(self.model)
        groups = [groups] if all(isinstance(group, Tensor) for group in groups) else groups
        if isinstance(xb, dict):
            return module_summary(self.model, groups=groups, **xb)
        return module_summary(self.model, *xb, groups=groups)

    def to(self, device: Any) -> Self:
        """Model and loaders on `device`."""
        self.model.to(device)
        if hasattr(self.dls, "to"):
            self.dls.to(device)
        return self

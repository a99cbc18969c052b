"""The `Learner`: a training loop with the verbs that people use, each a function that can be used alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypedDict

import torch
from torch import Tensor, nn

from layered.callback import (
    ProgressCallback,
    compile_model,
    dry_run,
    fit_flat_cos,
    fit_one_cycle,
    fit_sgdr,
    log,
    logging_callbacks,
    lr_find,
    overfit,
    to_bf16,
    to_channelslast,
    to_contiguous,
    to_fp16,
    to_fp32,
    uncompile,
)
from layered.data import DataLoaders
from layered.foundation import (
    StrPath,
    available_device,
    defaults,
    facts_html,
    facts_text,
    find_device,
    function_name,
    plain_tree,
    to_device,
)
from layered.inference import (
    calibrate,
    embed,
    get_preds,
    predict,
    predict_set,
    predict_sets,
    show_results,
    stream_preds,
    tta,
)
from layered.insight import doctor, grad_cam, profile, show_grad_cam
from layered.integrations import adopt_data, adopt_model
from layered.loop import ESSENTIAL_CALLBACKS, Cbs, Loop, OptFunc, Recorder, length_of, split_batch, valid_of
from layered.nn import Summary, module_summary
from layered.training.abstention import abstention
from layered.training.card import card
from layered.training.export import export
from layered.training.fit_auto import fit_auto
from layered.training.graphs import to_exported, to_onnx
from layered.training.hub import push_to_hub
from layered.training.tuning import fine_tune, freeze_to

defaults.callbacks = [*ESSENTIAL_CALLBACKS, ProgressCallback]


class LearnerArgs(TypedDict, total=False):
    """What every learner takes by keyword besides its data and its model; meanings and defaults are those of `Learner`.

    A function that makes a learner takes `**learner_args: Unpack[LearnerArgs]`; `@delegates(Learner)` lists them for `help()`.
    """

    loss_func: Callable[..., Any] | None
    opt_func: OptFunc | str | Mapping[str, OptFunc | str]
    lr: float | slice | None
    splitter: Callable[[nn.Module], Any]
    cbs: Cbs
    metrics: object
    path: StrPath | None
    model_dir: StrPath
    wd: float | None
    wd_bn_bias: bool
    train_bn: bool
    moms: tuple[float, float, float] | None
    default_cbs: bool | Cbs
    step: Callable[..., Any] | None
    seed: int | None
    strategy: str | None
    loggers: object


class Learner(Loop):
    """A model, its data, a loss and an optimizer, with the verbs to train, inspect, predict and export.

    By default it has the callbacks in `defaults.callbacks`: those of the loop, and the
    progress bar.

    - **Train**: `fit`, `fit_one_cycle`, `fit_flat_cos`, `fit_sgdr`, `fine_tune`, `fit_auto`; `freeze`, `unfreeze`, `freeze_to`;
      `lr_find`, `dry_run`, `overfit`
    - **Speed and precision**: `to`, `to_fp16`, `to_bf16`, `to_fp32`, `to_channelslast`, `to_contiguous`, `compile`,
      `uncompile`
    - **Validate and predict**: `validate`, `get_preds`, `stream_preds`, `tta`, `predict`, `embed`
    - **Doubt**: `calibrate`, `predict_set`, `predict_sets`, `abstention`
    - **Look**: `summary`, `show_results`, `grad_cam`, `show_grad_cam`, `recorder.plot_loss`, `recorder.plot_metrics`,
      `recorder.plot_sched`, `show_training_loop`
    - **Diagnose**: `doctor`, `profile`, `trace`
    - **Keep**: `save`, `load`, `export`, `to_onnx`, `to_exported`, `push_to_hub`, `card`; a fit is kept with
      `fit(checkpoint=, resume=)`
    - **Log**: `loggers=`, and `log` from inside a step or a callback
    - **Extend**: `add_cb`, `add_cbs`, `remove_cb`, `remove_cbs`, `on`, and the contexts `added_cbs`, `removed_cbs`, `no_bar`,
      `no_logging`

    Args:
        dls: `DataLoaders`, or a tuple (train, valid) of any loaders, where valid may be None; a LightningDataModule; or None
            for a LightningModule with loaders of its own.
        model: Any module.
        loss_func: Called as loss_func(pred, *targets); None takes the loaders' own, else the model's `output.loss`.
        opt_func: Called as opt_func(parameter_groups, lr=lr), or the name of an optimizer: "sgd"; a partial that holds `lr`
            wins over `lr`. A dict gives parts of the model, named as its submodules, optimizers of their own:
            {"gen": Adam, "critic": SGD}. By default Adam, or what a LightningModule configures.
        lr: Default learning rate of `fit`, a number or a slice; None is 0.001, or what a LightningModule configures.
        splitter: A function from the model to parameter groups, for freezing and discriminative rates.
        cbs: Callbacks that stay: instances, classes, or lists of these.
        metrics: Functions of (pred, target), `Metric`s, or torchmetrics'.
        path: Where `save` puts its folder `model_dir`; the loaders' own path if None.
        model_dir: The folder of weights, below `path`.
        wd: Weight decay; None leaves the optimizer's default.
        wd_bn_bias: Decay norm layers and biases too.
        train_bn: Norm layers learn even where frozen.
        moms: Momentum at the start, middle and end of a one-cycle fit.
        default_cbs: True for modes, recorder and plain tensors; False for none; or a list of your own.
        step: step(loop, batch) -> loss, in place of model(*xb), `after_pred` and loss_func. It may learn from several losses
            itself with `loop.minimize`, and then returns what is to be reported.
        seed: What shuffling and augmentation of the library's loaders depend on; None leaves theirs.
        strategy: How several processes share the model, if a launcher has started them: None, "ddp" or "fsdp", as for
            `to_distributed`.
        loggers: Where the numbers of fits go: the name of an experiment tracker ("tensorboard", "wandb", "mlflow", "trackio", …;
            `ExperimentLogger`), "csv" or "json" for a file, anything with a method `log(metrics, step)`, or a list of these.

    Examples:
        >>> import torch; from torch import nn; from torch.utils.data import TensorDataset
        >>> from layered.data import DataLoaders
        >>> x = torch.randn(64, 3); dls = DataLoaders.from_dsets(TensorDataset(x, x.sum(1)), TensorDataset(x, x.sum(1)), bs=16)
        >>> learn = Learner(dls, nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)), loss_func=nn.MSELoss())
        >>> with learn.no_bar(), learn.no_logging(): learn.fit(1, lr=0.1)
        >>> learn
        Learner on cpu: Sequential with 4 parameters
          data       train 4 batches, valid 4 batches
          loss       MSELoss
          optimizer  Adam, lr=0.001
          callbacks  TrainEvalCallback, Recorder, CastToTensor, ProgressCallback
    """

    recorder: Recorder
    recipe: dict[str, Any] | None = None  # the registered builder of the model and its arguments, for export

    fit_one_cycle = fit_one_cycle
    fit_flat_cos = fit_flat_cos
    fit_sgdr = fit_sgdr
    fine_tune = fine_tune
    fit_auto = fit_auto
    freeze_to = freeze_to
    lr_find = lr_find
    dry_run = dry_run
    overfit = overfit
    log = log
    to_fp16 = to_fp16
    to_bf16 = to_bf16
    to_fp32 = to_fp32
    to_channelslast = to_channelslast
    to_contiguous = to_contiguous
    compile = compile_model
    uncompile = uncompile
    get_preds = get_preds
    stream_preds = stream_preds
    embed = embed
    tta = tta
    predict = predict
    calibrate = calibrate
    predict_set = predict_set
    predict_sets = predict_sets
    abstention = abstention
    show_results = show_results
    grad_cam = grad_cam
    show_grad_cam = show_grad_cam
    export = export
    to_onnx = to_onnx
    to_exported = to_exported
    _adopt_data = adopt_data
    _adopt_model = adopt_model
    card = card
    push_to_hub = push_to_hub
    profile = profile
    doctor = doctor

    def default_callbacks(self) -> Sequence[Any]:
        """The callbacks that `default_cbs=True` adds: `defaults.callbacks`."""
        return list(defaults.callbacks)

    def logging_callbacks(self, loggers: Any) -> Cbs:
        """The callbacks that `loggers=` stands for."""
        return logging_callbacks(loggers)

    def freeze(self) -> None:
        """Train only the last parameter group."""
        self.freeze_to(-1)

    def unfreeze(self) -> None:
        """Train all parameter groups."""
        self.freeze_to(0)

    def summary(self) -> Summary:
        """The layers of the model with shapes, parameters, cost and parameter group, for one training batch."""
        batch = self.dls.one_batch()
        device = find_device(list(self.model.parameters()))
        batch = plain_tree(batch if device is None else to_device(batch, device))
        xb, _ = split_batch(batch, getattr(self.dls, "n_inp", None), self.model)
        groups: Any = self.opt.param_lists if self.opt is not None else self.splitter(self.model)
        groups = [groups] if all(isinstance(group, Tensor) for group in groups) else groups
        if isinstance(xb, dict):
            return module_summary(self.model, groups=groups, **xb)
        return module_summary(self.model, *xb, groups=groups)

    def to(self, device: torch.device | str) -> Self:
        """Move the model and the loaders to `device`.

        Args:
            device: `"cuda"`, `torch.device("cpu")`, ….

        Raises:
            BadArgument: This machine has no such device; nothing has moved.
        """
        self.model.to(available_device(device))
        if isinstance(self.dls, DataLoaders):
            self.dls.to(device)
        return self

    def __repr__(self) -> str:
        return facts_text(*self._facts())

    def _repr_html_(self) -> str:
        return facts_html(*self._facts())

    def _facts(self) -> tuple[str, dict[str, str]]:
        """What the learner consists of: a title, and a line for each part."""
        parameters = list(self.model.parameters())
        total, trained = (sum(p.numel() for p in ps) for ps in (parameters, [p for p in parameters if p.requires_grad]))
        size = f"{total:,} parameters" + (f", {trained:,} of them trained" if trained < total else "")
        loaders = {"train": self.dls.train, "valid": valid_of(self.dls)}
        lengths = {name: length_of(dl) for name, dl in loaders.items() if dl is not None}
        makers = self.opt_func if isinstance(self.opt_func, Mapping) else {"": self.opt_func}
        optimizers = [
            f"{name}: {function_name(make)}" if name else function_name(make) for name, make in makers.items()
        ]
        loss = "that of the model" if self.loss_func is None else function_name(self.loss_func)
        return (
            f"{type(self).__name__} on {find_device(parameters) or 'cpu'}: {type(self.model).__name__} with {size}",
            {
                "data": ", ".join(f"{name} {'?' if n is None else n} batches" for name, n in lengths.items()),
                "loss": loss,
                "optimizer": f"{', '.join(optimizers)}, lr={self.lr}",
                "callbacks": ", ".join(type(cb).__name__ for cb in self.cbs) or "none",
            },
        )

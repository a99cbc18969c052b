"""What programs written for skorch bring along that is called something else here."""

from __future__ import annotations

from layered.foundation import BadValue

HOOKS = {
    "get_loss", "train_step", "train_step_single", "validation_step", "evaluation_step", "infer", "run_single_epoch", "fit_loop",
    "initialize_module", "initialize_criterion", "initialize_optimizer", "get_dataset", "get_iterator", "get_split_datasets",
    "on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end", "on_batch_begin", "on_batch_end", "on_grad_computed",
}  # fmt: skip
_METRICS = "metrics=['roc_auc'], names of this library's metrics or of scikit-learn's scorers"
CALLBACKS = {
    "EpochScoring": _METRICS,
    "BatchScoring": _METRICS,
    "PassthroughScoring": _METRICS,
    "EarlyStopping": "EarlyStoppingCallback(patience=5)",
    "Checkpoint": "SaveModelCallback(), which also loads the best at the end",
    "TrainEndCheckpoint": "net.save_params(f_params='net.safetensors') after fit",
    "LoadInitState": "net.initialize().load_params(f_params='net.safetensors'), then partial_fit",
    "LRScheduler": "TorchScheduler(partial(StepLR, step_size=5), each='epoch'), any of torch's schedulers",
    "WarmRestartLR": "TorchScheduler(partial(CosineAnnealingWarmRestarts, T_0=10), each='epoch')",
    "GradientNormClipping": "GradientClip(1.0)",
    "Freezer": "parameter.requires_grad_(False) in the constructor of the module",
    "Unfreezer": "GradualUnfreezing, or a Learner with freeze and unfreeze",
    "Initializer": "torch.nn.init in the constructor of the module",
    "ParamMapper": "torch.nn.init or requires_grad_ in the constructor of the module",
    "InputShapeSetter": "nn.LazyLinear, which learns its input size from the first batch",
    "ProgressBar": "verbose=1",
    "PrintLog": "verbose=1",
    "EpochTimer": "net.history[:, 'time'], which is always there",
    "TensorBoard": "ExperimentLogger('tensorboard')",
    "WandbLogger": "ExperimentLogger('wandb')",
    "MlflowLogger": "ExperimentLogger('mlflow')",
    "NeptuneLogger": "ExperimentLogger, with a tracker of its list",
    "SacredLogger": "ExperimentLogger, with a tracker of its list",
}
"""What does the job of each callback of skorch."""


def check_no_hooks(kind: type) -> None:
    """Refuse a subclass with methods of skorch that would never be called.

    Args:
        kind: The class.

    Raises:
        BadValue: It has one.
    """
    for name in sorted(HOOKS & vars(kind).keys()):
        raise BadValue(
            f"a '{name}' of {kind.__name__} would never be called: training is that of a Learner",
            fix="pass the loss as criterion=, what happens at events as callbacks=, or train a Learner",
        )


def check_callback(callback: object) -> None:
    """Refuse a callback of skorch, and say what does its job.

    Args:
        callback: A class or a callback of any library.

    Raises:
        BadValue: It is one of skorch.
    """
    kind = callback if isinstance(callback, type) else type(callback)
    base = next((base for base in kind.__mro__ if base.__module__.partition(".")[0] == "skorch"), None)
    if base is not None:
        raise BadValue(
            f"{kind.__name__} is a callback of skorch, which a Learner does not call",
            fix=CALLBACKS.get(base.__name__, "a Callback of layered.basics, with before_epoch, after_batch, …"),
        )

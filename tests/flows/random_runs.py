"""Runs of a random make: loader, optimizer, callbacks, schedule, checkpoints and interruptions, drawn from a seed."""

import csv
import json
import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from killing import End, Strike, Witness, digest
from PIL import Image
from power import Synced
from recipes import left, ordered
from torch.utils.data import IterableDataset, TensorDataset, WeightedRandomSampler

from layered import optim
from layered.callback import TrackerCallback
from layered.loop import Recorder
from layered.tabular.all import Categorify, FillMissing, Normalize, TabularDataLoaders, tabular_learner
from layered.vision.all import (
    SAM,
    ActivationStats,
    BnFreeze,
    Callback,
    CancelBackwardException,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    CancelStepException,
    CancelTrainException,
    ChannelsLast,
    Checkpoint,
    CrossEntropyLossFlat,
    CSVLogger,
    CutMix,
    DataLoader,
    DataLoaders,
    EarlyStoppingCallback,
    EMACallback,
    GradientAccumulation,
    GradientClip,
    GradientStats,
    GradualUnfreezing,
    ImageDataLoaders,
    JSONLogger,
    Learner,
    LoggerCallback,
    MCDropoutCallback,
    MixedPrecision,
    MixUp,
    OverfitOneBatch,
    ParamScheduler,
    PartialDL,
    ProgressCallback,
    ReduceLROnPlateau,
    RunRecord,
    SaveModelCallback,
    SchedCos,
    ShortEpochCallback,
    StopOnNonFinite,
    StopWhen,
    SWACallback,
    TerminateOnNaNCallback,
    TorchScheduler,
    WeightedDL,
    accuracy,
    nn,
    noop,
    set_seed,
)

X = torch.randn(60, 1, 6, 6, generator=torch.Generator().manual_seed(1))
Y = X.flatten(1).sum(1).remainder(3).long()
TRAIN, VALID = (TensorDataset(X[part], Y[part]) for part in (slice(0, 46), slice(46, 60)))


class Stream(IterableDataset):
    def __iter__(self):
        return zip(X[:46], Y[:46], strict=True)


def ours(folder: Path, workers: int) -> DataLoaders:
    return DataLoaders.from_dsets(TRAIN, VALID, bs=4, device="cpu", num_workers=workers)


def torchs(folder: Path, workers: int) -> Any:
    load = partial(torch.utils.data.DataLoader, batch_size=4, num_workers=workers)
    return load(TRAIN, shuffle=True, drop_last=True), load(VALID)


def torchs_weighted(folder: Path, workers: int) -> Any:
    sampler = WeightedRandomSampler([1.0, 2.0] * 23, 40)
    load = partial(torch.utils.data.DataLoader, batch_size=4, num_workers=workers)
    return load(TRAIN, sampler=sampler), load(VALID)


def made(train: DataLoader, workers: int) -> DataLoaders:
    return DataLoaders(train, DataLoader(VALID, bs=4, num_workers=workers, device="cpu"))


def stream(folder: Path, workers: int) -> DataLoaders:
    return made(DataLoader(Stream(), bs=4, shuffle=True, shuffle_buffer=7, num_workers=workers, device="cpu"), workers)


def weighted(folder: Path, workers: int) -> DataLoaders:
    return made(WeightedDL(TRAIN, wgts=np.arange(1.0, 47), bs=4, num_workers=workers, device="cpu"), workers)


def partial_passes(folder: Path, workers: int) -> DataLoaders:
    return made(PartialDL(TRAIN, partial_n=30, bs=4, num_workers=workers, device="cpu"), workers)


def tabular(folder: Path, workers: int) -> DataLoaders:
    rng = np.random.default_rng(0)
    table = {"a": rng.normal(size=60), "b": rng.choice(["u", "v", None], 60), "c": rng.normal(size=60)}
    table["c"][::7] = np.nan
    frame = pd.DataFrame(table | {"y": rng.choice(["p", "q", "r"], 60)})
    procs = [Categorify, FillMissing, Normalize]
    return TabularDataLoaders.from_df(
        frame, procs=procs, y_names="y", valid_idx=range(46, 60), bs=4, num_workers=workers
    )


def vision(folder: Path, workers: int) -> DataLoaders:
    pictures = folder.parent / "pictures"
    if not pictures.exists():
        rng = np.random.default_rng(0)
        for i in range(30):
            (pictures / "pqr"[i % 3]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(pictures / "pqr"[i % 3] / f"{i}.png")
    return ImageDataLoaders.from_folder(pictures, valid_pct=0.25, seed=3, bs=4, num_workers=workers, device="cpu")


LOADERS = [ours, torchs, torchs_weighted, stream, weighted, partial_passes, tabular, vision]


def net(dls: Any, loader: Any) -> nn.Module:
    torch.manual_seed(3)
    if loader is tabular:
        return tabular_learner(dls, [8]).model
    planes = 3 if loader is vision else 1
    body = nn.Sequential(nn.Conv2d(planes, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten())
    return nn.Sequential(body, nn.Dropout(0.2), nn.Linear(36, 3))


OPTIMIZERS: dict[str, Any] = {
    name: getattr(optim, name)
    for name in (
        *("SGD", "RMSProp", "Adagrad", "Adam", "RAdam", "QHAdam", "Larc", "Lamb", "Lion"),
        *("Muon", "ScheduleFree", "ranger"),
    )
} | {f"torch's {name}": getattr(torch.optim, name) for name in (
    "SGD", "Adam", "AdamW", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "ASGD",
)} | {
    "SGD with momentum": partial(optim.SGD, mom=0.9, wd=0.01),
    "Lookahead of SGD": lambda params, lr: optim.Lookahead(optim.SGD(params, lr, mom=0.9), k=3),
    "torch's SGD with momentum": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "torch's AdamW with amsgrad": partial(torch.optim.AdamW, amsgrad=True),
}  # fmt: skip


class CancelAt(Callback):
    """Cancels something in some batches."""

    def __init__(self, error: Any, event: str, every: int) -> None:
        self.error, self.event, self.every = error, event, every

    def is_due(self, event: str) -> None:
        learn = self.learn
        if (
            event == self.event
            and learn.fitting
            and learn.training
            and (learn.train_iter + learn.epoch) % self.every == 2
        ):
            raise self.error

    def before_batch(self) -> None:
        self.is_due("before_batch")

    def after_batch(self) -> None:
        self.is_due("after_batch")

    def before_backward(self) -> None:
        self.is_due("before_backward")

    def before_step(self) -> None:
        self.is_due("before_step")


class DrawsAnything(Callback):
    """Draws from every global generator, in training and validation."""

    def __init__(self) -> None:
        self.drawn: list[float] = []

    def after_pred(self) -> None:
        self.drawn = [random.random(), float(np.random.rand()), *self.drawn[:5]]
        self.learn.pred = self.learn.pred + 1e-3 * torch.randn_like(self.learn.pred) * self.drawn[0]


class Collected:
    """A logger of somebody else's."""

    def log(self, metrics: Any, step: int) -> None:
        pass


def some_cancel(dice: random.Random) -> CancelAt:
    if dice.random() < 0.3:
        error, event = dice.choice([(CancelBackwardException, "before_backward"), (CancelStepException, "before_step")])
    else:
        event = dice.choice(["before_batch", "after_batch"])
        error = dice.choice([CancelBatchException, CancelTrainException, CancelEpochException, CancelFitException])
        if error is CancelBatchException:
            event = "before_batch"
    return CancelAt(error, event, dice.choice([3, 5, 11]))


def half(position: float) -> float:
    return 0.02 * (1.1 - position)


def plateau(opt: Any) -> Any:
    return torch.optim.lr_scheduler.ReduceLROnPlateau(opt, patience=0)


def steps(opt: Any) -> Any:
    return torch.optim.lr_scheduler.StepLR(opt, 5, 0.7)


def is_low(row: dict[str, Any]) -> bool:
    return row["epoch"] >= 2 and row["train_loss"] < 1.05


CALLBACKS: dict[str, Any] = {
    "EMA": lambda dice: EMACallback(0.9, validate=dice.random() < 0.5),
    "SWA": lambda dice: SWACallback(start=0.3, every=dice.choice(["1 epoch", "3 batches"]), validate=dice.random() < 0.5),
    "MCDropout": lambda dice: MCDropoutCallback(),
    "BnFreeze": lambda dice: BnFreeze(dice.random() < 0.5),
    "Unfreezing": lambda dice: GradualUnfreezing(dice.choice(["1 epoch", "5 batches"])),
    "Accumulation": lambda dice: GradientAccumulation(dice.choice([6, 8, 12, 13])),
    "Clip": lambda dice: GradientClip(dice.choice([0.1, 1.0])),
    "ActivationStats": lambda dice: ActivationStats(with_hist=dice.random() < 0.5),
    "GradientStats": lambda dice: GradientStats(dice.choice([1, 2])),
    "ShortEpoch": lambda dice: ShortEpochCallback(dice.choice([0.3, 0.5, 0.7]), short_valid=dice.random() < 0.5),
    "StopWhen": lambda dice: StopWhen(is_low),
    "CSV": lambda dice: CSVLogger(append=dice.random() < 0.5),
    "JSON": lambda dice: JSONLogger(append=dice.random() < 0.5),
    "Logger": lambda dice: LoggerCallback(Collected()),
    "CutMix": lambda dice: CutMix(),
    "MixUp": lambda dice: MixUp(),
    "NonFinite": lambda dice: StopOnNonFinite(),
    "Precision": lambda dice: dice.choice([MixedPrecision("bf16"), MixedPrecision(init_scale=256.0, growth_interval=3)]),
    "OverfitOneBatch": lambda dice: OverfitOneBatch(),
    "ParamScheduler": lambda dice: ParamScheduler({"lr": dice.choice([half, SchedCos(0.05, 0.001)])}),
    "TorchScheduler": lambda dice: TorchScheduler(steps, dice.choice(["batch", "epoch"])),
    "Plateau": lambda dice: TorchScheduler(plateau, "epoch", monitor="train_loss"),
    "SAM": lambda dice: SAM(dice.choice([0.05, 0.5])),
    "ChannelsLast": lambda dice: ChannelsLast(),
    "EarlyStopping": lambda dice: EarlyStoppingCallback("train_loss", patience=dice.choice([1, 2])),
    "ReduceLR": lambda dice: ReduceLROnPlateau("train_loss", patience=1),
    "SaveModel": lambda dice: SaveModelCallback("train_loss", with_opt=dice.random() < 0.5, keep=dice.choice([None, 2])),
    "SaveEpochs": lambda dice: SaveModelCallback(fname="epochs", every_epoch=True, at_end=True),
    "NaN": lambda dice: TerminateOnNaNCallback(),
    "Tracker": lambda dice: TrackerCallback("accuracy"),
    "Cancel": some_cancel,
    "Draws": lambda dice: DrawsAnything(),
}  # fmt: skip


def recipe(seed: str) -> dict[str, Any]:
    """What the run with this seed is made of, to be shown."""
    dice = random.Random(seed)
    drawn = dice.sample(sorted(CALLBACKS), dice.randint(0, 5))
    return {
        "loader": dice.choice(LOADERS),
        "workers": dice.choice([0, 0, 0, 1, 2]),
        "optimizer": dice.choice(sorted(OPTIMIZERS)),
        "callbacks": [(name, dice.random()) for name in drawn],
        "record": dice.random() < 0.3,
        "verb": dice.choice(["fit", "fit", "fit_one_cycle", "fit_flat_cos", "fit_sgdr", "fine_tune"]),
        "epochs": dice.randint(1, 3),
        "fits": dice.choice([1, 1, 2]),
        "every": dice.choice(["1 batch", "2 batches", "3 batches", "7 batches", "1 epoch", "2 epochs", "0.05 sec"]),
        "keep": dice.choice([1, 2, 3]),
        "background": dice.random() < 0.7,
        "valid_every": dice.choice([1, 1, 1, 2, "4 batches", "7 batches"]),
    }


def learner(folder: Path, made_of: dict[str, Any], end: End) -> Learner:
    set_seed(7)
    dls = made_of["loader"](folder, made_of["workers"])
    cbs = [CALLBACKS[name](random.Random(number)) for name, number in made_of["callbacks"]]
    if made_of["record"]:
        cbs.append(RunRecord(folder / "record"))
    learn = Learner(
        dls, net(dls, made_of["loader"]), CrossEntropyLossFlat(), OPTIMIZERS[made_of["optimizer"]], lr=0.02, path=folder,
        metrics=accuracy, cbs=[*cbs, Witness(), Strike(end)],
    )  # fmt: skip
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    return learn


def random_run(folder: Path, end: End, seed: str, synced: Synced | None = None) -> dict[str, Any]:
    """The run with this seed, resumed if it began before; what it syncs is noted for a power cut."""
    if synced is not None:
        synced.watch()
    made_of = recipe(seed)
    learn = learner(folder, made_of, end)
    verb, epochs = made_of["verb"], made_of["epochs"]
    args: dict[str, Any] = {"checkpoint": Checkpoint(
        folder / "run", made_of["every"], keep=made_of["keep"], background=made_of["background"],
    ), "resume": "auto", "valid_every": made_of["valid_every"]}  # fmt: skip
    if made_of["loader"] is stream:
        args["n_iter"] = 11
    for _ in range(made_of["fits"]):
        if verb == "fit_sgdr":
            learn.fit_sgdr(2, 1, 0.02, **args)
        else:
            getattr(learn, verb)(epochs, 0.02, **args)
    states = {
        type(cb).__name__: digest(
            json.loads(json.dumps(ordered(cb.state_dict()), default=digest).replace(str(folder), ""))
        )
        for cb in learn.cbs
        if isinstance(cb, Callback) and not cb.observes and not isinstance(cb, (Recorder, Witness))
    }
    return left(learn) | {"states": states, "logs": logs(folder), "files": names(folder)}


def logs(folder: Path) -> dict[str, Any]:
    """The lines of the logs."""
    found: dict[str, Any] = {file.name: list(csv.reader(file.open())) for file in folder.glob("*.csv")}
    return found | {
        file.name: [json.loads(line) for line in file.read_text().splitlines()] for file in folder.glob("*.jsonl")
    }


def names(folder: Path) -> list[str]:
    """The files that are left, but for checkpoints, whose numbers depend on how often the run was begun."""
    files = (file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    shown = (file for file in files if file.parts[0] not in ("run", "left.json", "error.txt"))
    return sorted(map(str, shown))

"""Short runs that use what a resumed run could get wrong. Each is given a folder and how it ends, and tells what it has left."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from killing import End, Strike, Witness, digest
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from layered.foundation import get_random_states
from layered.text.all import (
    AWD_LSTM,
    CharTokenizer,
    LMDataLoader,
    Numericalize,
    Tokenizer,
    TransformBlock,
    language_model_learner,
)
from layered.vision.all import (
    SAM,
    SGD,
    Adam,
    BnFreeze,
    CategoryBlock,
    Checkpoint,
    CSVLogger,
    CutMix,
    DataBlock,
    DataLoaders,
    EarlyStoppingCallback,
    EMACallback,
    GradientAccumulation,
    GradientClip,
    GradualUnfreezing,
    GrandparentSplitter,
    ImageBlock,
    Lamb,
    Learner,
    MixedPrecision,
    MixUp,
    ProgressCallback,
    RandomResizedCrop,
    RandomSplitter,
    ReduceLROnPlateau,
    SaveModelCallback,
    SWACallback,
    URLs,
    accuracy,
    aug_transforms,
    get_image_files,
    nn,
    noop,
    parent_label,
    ranger,
    set_seed,
    untar_data,
    vision_learner,
)

IMAGES = {"bs": 8, "device": "cpu"}


def small_net(pretrained: bool = False) -> nn.Module:
    """A convolutional network with batch norm and dropout."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Dropout2d(0.2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


def pictures(folder: Path, end: End, workers: int = 0, weights: Any = None, **learner_args: Any) -> Learner:
    """A learner on pictures that are cropped and warped at random, each by itself and batch by batch."""
    set_seed(7)
    os.environ["LAYERED_HOME"] = str(folder.parent / "home")
    some = get_image_files(untar_data(URLs.FASHION_TINY))[::28]
    block = DataBlock(
        (ImageBlock, CategoryBlock), get_y=parent_label, splitter=GrandparentSplitter(),
        item_tfms=RandomResizedCrop(32, min_scale=0.5), batch_tfms=aug_transforms(),
    )  # fmt: skip
    dls = block.dataloaders(some, num_workers=workers, weights=weights, **IMAGES)
    cbs = [*learner_args.pop("cbs", []), Witness(), Strike(end)]
    learn = vision_learner(dls, small_net, pretrained=False, metrics=accuracy, path=folder, cbs=cbs, **learner_args)
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    return learn


def rows(folder: Path, end: End, model: nn.Module, cbs: Any = (), **learner_args: Any) -> Learner:
    """A learner on a table of random numbers."""
    set_seed(7)
    x = torch.randn(45, 3, generator=torch.Generator().manual_seed(1))
    train, valid = (torch.utils.data.TensorDataset(part, part.sum(1, keepdim=True)) for part in (x[:34], x[34:]))
    dls = DataLoaders.from_dsets(train, valid, bs=4, device="cpu")
    learn = Learner(dls, model, nn.MSELoss(), path=folder, cbs=[*cbs, Witness(), Strike(end)], **learner_args)
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    return learn


def mlp() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Tanh(), nn.Linear(8, 1))


def saving(folder: Path, every: str = "3 batches") -> dict[str, Any]:
    return {"checkpoint": Checkpoint(folder / "run", every), "resume": "auto"}


def ordered(value: Any) -> Any:
    """Dicts by their keys, all the way down: their own order is that of what happened first."""
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value, key=repr)}
    return [ordered(part) for part in value] if isinstance(value, (list, tuple)) else value


def left(learn: Learner, *files: Path) -> dict[str, Any]:
    """What a run has left, as data: equal for two runs that did the same."""
    recorder = learn.recorder
    return {
        "weights": {name: digest(x) for name, x in learn.model.state_dict().items()},
        "optimizer": digest(ordered(learn.opt.state_dict())),
        "trace": learn.witness.rows,
        "losses": recorder.losses,
        "rates": recorder.lrs,
        "schedules": recorder.hps,
        "metrics": recorder.values,
        "random": digest(get_random_states()),
        "files": {str(file): file.read_text() for file in files},
    }


def augmented(folder: Path, end: End, workers: int = 0) -> dict[str, Any]:
    """The two fits of `fine_tune`, one in each half of the run."""
    learn = pictures(folder, end, workers)
    learn.fine_tune(2, 1e-2, **saving(folder))
    return left(learn)


def mixed(folder: Path, end: End) -> dict[str, Any]:
    cbs = [MixUp(), EMACallback(), GradientAccumulation(24), GradientClip(0.1)]
    learn = pictures(folder, end, cbs=cbs)
    learn.fit_one_cycle(3, 1e-2, **saving(folder, "1 batch"))
    return left(learn)


def cut(folder: Path, end: End) -> dict[str, Any]:
    learn = pictures(folder, end, cbs=[CutMix(), SWACallback(start=0.4, validate=True)])
    learn.fit_flat_cos(3, 1e-2, **saving(folder))
    return left(learn)


def sharp(folder: Path, end: End) -> dict[str, Any]:
    learn = pictures(folder, end, cbs=[SAM(), MixedPrecision("bf16"), BnFreeze()], opt_func=ranger)
    learn.fit_sgdr(2, 1, 1e-2, **saving(folder))
    return left(learn)


def tracked(folder: Path, end: End) -> dict[str, Any]:
    """Weighted draws, and files beside the checkpoints."""
    cbs = [SaveModelCallback(monitor="accuracy"), EarlyStoppingCallback(patience=3), CSVLogger(), ReduceLROnPlateau()]
    learn = pictures(folder, end, weights="balanced", cbs=cbs)
    learn.fit_one_cycle(4, 1e-2, **saving(folder))
    return left(learn) | {"file": (folder / "history.csv").read_text()}


def several(folder: Path, end: End) -> dict[str, Any]:
    """An optimizer for each part of a model."""
    parts = {"0": partial(SGD, mom=0.9), "4": Adam}
    learn = rows(folder, end, nn.Sequential(*[m for m in mlp() if not isinstance(m, nn.BatchNorm1d)], nn.Identity()),
                 opt_func={"0": parts["0"], "3": parts["4"]}, lr=0.05)  # fmt: skip
    learn.fit(6, **saving(folder))
    return left(learn)


def unfrozen(folder: Path, end: End) -> dict[str, Any]:
    """Groups that begin to learn one after the other, and scaled losses."""
    groups = lambda m: [[*m[0].parameters()], [*m[1].parameters()], [*m[4].parameters()]]
    cbs = [GradualUnfreezing("2 epochs"), MixedPrecision(init_scale=256.0, growth_interval=5)]
    learn = rows(folder, end, mlp(), cbs, splitter=groups, opt_func=Lamb)
    learn.fit_one_cycle(6, slice(1e-3, 1e-1), **saving(folder))
    return left(learn)


def epochs(folder: Path, end: End) -> dict[str, Any]:
    """Checkpoints at the ends of epochs only, several fits, and what torch brings."""
    learn = rows(folder, end, mlp(), [GradientAccumulation(10)], opt_func=torch.optim.AdamW)
    for rate in (0.1, 0.01, 0.001):
        learn.fit(2, rate, **saving(folder, "1 epoch"))
    return left(learn)


def worded(folder: Path, end: End) -> dict[str, Any]:
    """A language model, whose state goes on from batch to batch."""
    set_seed(7)
    column = TransformBlock([Tokenizer(CharTokenizer()), Numericalize(min_freq=1)], dl_type=LMDataLoader)
    texts = [
        f"the {name} of a {recipe}" for name in ("film", "book", "song") for recipe in ("day", "lonely night", "year")
    ]
    dls = DataBlock(column, splitter=RandomSplitter(0.3, seed=1)).dataloaders(texts, bs=4, seq_len=5, device="cpu")
    learn = language_model_learner(
        dls, AWD_LSTM, config={"emb_sz": 8, "n_hid": 12, "n_layers": 2}, pretrained=False, path=folder,
        cbs=[Witness(), Strike(end)],
    )  # fmt: skip
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    learn.fit_one_cycle(4, 1e-2, **saving(folder))
    return left(learn)


def workers(folder: Path, end: End) -> dict[str, Any]:
    return augmented(folder, end, 2)


def shared(folder: Path, end: End, rank: int, meet: Path) -> dict[str, Any]:
    """One of two processes that share each batch, each with a dropout of its own."""
    distributed.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=2)
    torch.manual_seed(rank)
    learn = rows(folder, end, DistributedDataParallel(mlp()), [GradientAccumulation(12)])
    learn.fit_one_cycle(8, 1e-2, **saving(folder.parent))
    found = left(learn)
    distributed.barrier()  # neither leaves while the other still talks to it
    distributed.destroy_process_group()
    return found


RECIPES = {
    recipe.__name__: recipe
    for recipe in (augmented, workers, mixed, cut, sharp, tracked, several, unfrozen, epochs, worded)
}

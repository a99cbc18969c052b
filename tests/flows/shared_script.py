"""Run plainly, or by `torchrun --nproc_per_node 2`: fits of many kinds; what each leaves goes to a file."""

import json
import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from layered.basics import (
    SAM,
    ActivationCheckpointing,
    Adam,
    AdamW,
    Callback,
    Checkpoint,
    DataLoaders,
    EMACallback,
    GradientAccumulation,
    GradientClip,
    GradualUnfreezing,
    Learner,
    MixedPrecision,
    MixUp,
    Resume,
    SaveModelCallback,
    set_seed,
)
from layered.foundation import full_tensor, rank_and_world
from layered.loop.resume import checkpoint

folder = Path(sys.argv[1])
world = int(sys.argv[2])  # how many processes share a batch
x = torch.randn(22, 4, generator=torch.Generator().manual_seed(0))
y = (x.sum(1) > 0).long() + (x[:, 0] > 1).long()
weights = torch.tensor([1.0, 5.0, 0.5])
rows = list(zip(x, y, strict=True))


class Twice(nn.Module):
    """Has a part that is not used in every pass."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.calls = nn.Linear(4, 3), nn.Linear(4, 3), 0

    def forward(self, x):
        self.calls += 1
        return self.first(x) + (self.second(x) if self.calls % 3 == 0 else 0)


def by_hand(loop, batch):
    loop.pred = loop.model(batch[0])
    return F.cross_entropy(loop.pred, batch[1])


def groups(model):
    return [list(model[0].parameters()), list(model[2].parameters())]


RECIPES = {
    "plain": {},
    "weighted": {"loss_func": nn.CrossEntropyLoss(weight=weights)},
    "ignored": {"loss_func": nn.CrossEntropyLoss(ignore_index=1)},
    "sum": {"loss_func": nn.CrossEntropyLoss(weight=weights / 10, reduction="sum")},
    "clip": {"cbs": GradientClip(0.05)},
    "accumulation": {"cbs": GradientAccumulation(16), "loss_func": nn.CrossEntropyLoss(weight=weights)},
    "bf16": {"cbs": MixedPrecision("bf16")},
    "mixed": {"cbs": MixUp(), "loss_func": nn.CrossEntropyLoss(weight=weights)},
    "sharp": {"cbs": SAM()},
    "average": {"cbs": EMACallback(0.9)},
    "step": {"step": by_hand},
    "unfrozen": {"cbs": GradualUnfreezing("1 batch"), "splitter": groups},
    "partly used": {"model": Twice},
}


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.inner, self.scale = nn.Sequential(nn.Linear(n, n), nn.LayerNorm(n)), nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return x + self.scale * self.inner(x).tanh()


def blocks():
    return nn.Sequential(nn.Linear(4, 5), Block(5), Block(5), nn.Linear(5, 3))


def tied():
    model = blocks()
    model[2].inner[0].weight = model[1].inner[0].weight
    return model


def thirds(model):
    return [list(model[0].parameters()), [*model[1].parameters(), *model[2].parameters()], list(model[3].parameters())]


class Stop(Callback):
    def after_step(self):
        if self.train_iter == 4:
            raise KeyboardInterrupt


ENGINES = {
    "clip": {"cbs": GradientClip(0.05), "opt_func": partial(AdamW, wd=0.1)},
    "accumulation": {"cbs": GradientAccumulation(16), "loss_func": nn.CrossEntropyLoss(weight=weights)},
    "bf16": {"cbs": MixedPrecision("bf16")},
    "sharp": {"cbs": SAM(), "model": blocks},
    "step": {"step": by_hand, "opt_func": torch.optim.AdamW},
    "unfrozen": {"cbs": GradualUnfreezing("1 batch"), "splitter": thirds, "model": blocks},
    "partly used": {"model": Twice},
    "resumed": {"cbs": EMACallback, "model": blocks, "stops": True},
    "recomputed": {"cbs": ActivationCheckpointing, "model": blocks},
}
SHARDED = {
    "resumed in parts": {"cbs": EMACallback, "model": blocks, "stops": True},
    "tied": {"model": tied},
    "lamb": {"opt_func": "lamb"},
    "larc": {"opt_func": "larc"},
    "ranger": {"opt_func": "ranger"},
    "adagrad": {"opt_func": "adagrad"},
    "muon": {"opt_func": "muon", "model": blocks},
    "schedule-free, resumed": {"opt_func": "ScheduleFree", "model": blocks, "stops": True},
}
for engine, recipes in {"ddp": ENGINES, "fsdp": ENGINES | SHARDED}.items():
    RECIPES |= {f"{name}, {engine}": {**recipe, "strategy": engine} for name, recipe in recipes.items()}


def net():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def learner(name, recipe):
    set_seed(7 + int(os.environ.get("RANK", 0)))  # each process makes other weights; those of the first count
    recipe = {"loss_func": nn.CrossEntropyLoss(), "opt_func": Adam, "model": net, **recipe}
    dls = DataLoaders.from_dsets(rows, rows[:11], bs=8 // world, seed=3, drop_last=False, device="cpu")
    return Learner(dls, recipe.pop("model")(), lr=0.05, path=folder / str(world) / name, **recipe)


left = {}
for name, recipe in RECIPES.items():
    stops, run = recipe.pop("stops", False), {}
    learn = learner(name, recipe)
    with learn.no_bar(), learn.no_logging():
        if stops:
            checkpoint.LARGE = 0 if "parts" in name else 1 << 31
            run = {"checkpoint": Checkpoint(learn.path / "run", keep=9), "resume": "auto"}
            learn.add_cb(Stop())
            with suppress(KeyboardInterrupt):
                learn.fit(2, **run)
            learn = learner(name, recipe)
            if world == 1:  # goes on with what the two processes have left
                run["resume"] = Resume(folder / "2" / name / "run" / "checkpoint-000001.layered", allow="processes")
        with learn.no_bar(), learn.no_logging():
            learn.fit(2, cbs=[] if stops else SaveModelCallback(), **run)
    learn.save("kept")
    learn.load("kept")
    preds, targets = learn.get_preds()
    ragged = learn.get_preds(dl=learn.dls.train, with_loss=True)
    left[name] = {
        "weights": [full_tensor(p).tolist() for p in learn.model.state_dict().values()],
        # the training loss is smoothed in each process, so another number of them goes on with that of the first
        "losses": learn.recorder.values[-1][1 if stops else 0 :],
        "preds": preds.tolist(),
        "targets": targets.tolist(),
        "all": [part.tolist() for part in ragged],
    }
(folder / f"{rank_and_world()[0]}-of-{world}.json").write_text(json.dumps(left))

"""Run plainly, or by `torchrun --nproc_per_node 2`: fits of many kinds; what each leaves goes to a file."""

import json
import os
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from layered.basics import (
    SAM,
    Adam,
    DataLoaders,
    EMACallback,
    GradientAccumulation,
    GradientClip,
    GradualUnfreezing,
    Learner,
    MixedPrecision,
    MixUp,
    SaveModelCallback,
    set_seed,
)
from layered.foundation import rank_and_world

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


def net():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


left = {}
for name, recipe in RECIPES.items():
    set_seed(7 + int(os.environ.get("RANK", 0)))  # each process makes other weights; those of the first count
    model = recipe.pop("model", net)()
    dls = DataLoaders.from_dsets(rows, rows[:11], bs=8 // world, seed=3, drop_last=False, device="cpu")
    learn = Learner(
        dls, model, opt_func=Adam, lr=0.05, path=folder / name, **{"loss_func": nn.CrossEntropyLoss(), **recipe}
    )
    with learn.no_bar(), learn.no_logging():
        learn.fit(2, cbs=SaveModelCallback())
    learn.save("kept")
    learn.load("kept")
    preds, targets = learn.get_preds()
    ragged = learn.get_preds(dl=learn.dls.train, with_loss=True)
    left[name] = {
        "weights": [p.tolist() for p in learn.model.state_dict().values()],
        "losses": learn.recorder.values[-1],
        "preds": preds.tolist(),
        "targets": targets.tolist(),
        "all": [part.tolist() for part in ragged],
    }
(folder / f"{rank_and_world()[0]}-of-{world}.json").write_text(json.dumps(left))

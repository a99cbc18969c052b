"""One step of each recipe over its twin in torch, foreach or fused, on one CPU thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor

from benchmarks.runner import Result, compare
from layered.optim import SGD, Adagrad, Adam, Muon, RAdam, RMSProp, ScheduleFree

Shapes = list[torch.Size]
Make = Callable[..., Any]

BETAS = {"betas": (0.9, 0.99), "eps": 1e-5}
TWINS: list[tuple[str, Make, str, Make]] = [
    ("Adam", Adam, "foreach", partial(torch.optim.AdamW, weight_decay=0.01, foreach=True, **BETAS)),
    ("Adam", Adam, "fused", partial(torch.optim.AdamW, weight_decay=0.01, fused=True, **BETAS)),
    (
        "Adam by formula",
        partial(Adam, fused=False),
        "foreach",
        partial(torch.optim.AdamW, weight_decay=0.01, foreach=True, **BETAS),
    ),
    ("SGD", SGD, "foreach", partial(torch.optim.SGD, foreach=True)),
    ("SGD", SGD, "fused", partial(torch.optim.SGD, fused=True)),
    ("SGD with momentum", partial(SGD, mom=0.9), "fused", partial(torch.optim.SGD, momentum=0.9, fused=True)),
    ("SGD with momentum", partial(SGD, mom=0.9), "foreach", partial(torch.optim.SGD, momentum=0.9, foreach=True)),
    ("Adagrad", Adagrad, "fused", partial(torch.optim.Adagrad, fused=True)),
    ("ScheduleFree", ScheduleFree, "AdamW, foreach", partial(torch.optim.AdamW, foreach=True, **BETAS)),
    ("RMSProp", RMSProp, "foreach", partial(torch.optim.RMSprop, foreach=True)),
    ("RAdam", RAdam, "foreach", partial(torch.optim.RAdam, foreach=True, **BETAS)),
]


def with_grads(shapes: Shapes) -> list[Tensor]:
    torch.manual_seed(0)
    params = [torch.randn(shape).requires_grad_() for shape in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    return params


def main() -> list[Result]:
    torch.set_num_threads(1)
    with torch.device("meta"):
        resnet50: Shapes = [p.shape for p in torchvision.models.resnet50().parameters()]
    tiny = [torch.Size([10])] * 500
    results = []
    for name, shapes, budget, rounds in (("ResNet-50", resnet50, 0.80, 20), ("500 tiny tensors", tiny, 1.05, 100)):
        budgets = {
            ("Adam", "foreach"): budget,
            ("Adam", "fused"): 1.1,
            ("SGD", "foreach"): 1.0,
            ("Adagrad", "fused"): 1.1,
        }
        for recipe, make, peer, make_peer in TWINS:
            ours, theirs = make(with_grads(shapes), lr=1e-3).step, make_peer(with_grads(shapes), lr=1e-3).step
            limit = budgets.get((recipe, peer))
            results.append(compare(f"{recipe} step, {name}, over {peer}", ours, theirs, budget=limit, rounds=rounds))
    blocks = [torch.Size([256, 256]), torch.Size([1024, 256]), torch.Size([256, 1024])] * 6
    ours = Muon(with_grads(blocks), lr=1e-3).step
    theirs = torch.optim.Muon(with_grads(blocks), lr=1e-3, adjust_lr_fn="match_rms_adamw").step
    results.append(compare("Muon step, six transformer blocks of width 256, over torch's", ours, theirs, rounds=10))
    return results


if __name__ == "__main__":
    main()

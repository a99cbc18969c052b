"""One step of Adam over torch's foreach AdamW (and, for the limit, its fused kernel), on one CPU thread."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor

from benchmarks.runner import Result, compare
from layered.optim.zoo import Adam

Shapes = list[torch.Size]


def with_grads(shapes: Shapes) -> list[Tensor]:
    torch.manual_seed(0)
    params = [torch.randn(shape).requires_grad_() for shape in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    return params


def adamw(shapes: Shapes, **how: bool) -> torch.optim.Optimizer:
    return torch.optim.AdamW(with_grads(shapes), lr=1e-3, betas=(0.9, 0.99), eps=1e-5, weight_decay=0.01, **how)


def main() -> list[Result]:
    torch.set_num_threads(1)
    with torch.device("meta"):
        resnet50: Shapes = [p.shape for p in torchvision.models.resnet50().parameters()]
    tiny = [torch.Size([10])] * 500
    results = []
    for name, shapes, budget, rounds in (("ResNet-50", resnet50, 0.80, 20), ("500 tiny tensors", tiny, 1.05, 200)):
        ours = Adam(with_grads(shapes), lr=1e-3).step
        for peer, limit in (("foreach", budget), ("fused", None)):
            theirs = adamw(shapes, **{peer: True}).step
            results.append(compare(f"Adam step, {name}, over {peer}", ours, theirs, budget=limit, rounds=rounds))
    return results


if __name__ == "__main__":
    main()

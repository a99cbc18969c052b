"""Muon: steps of equal size in every direction for the matrices of hidden layers, Adam for everything else."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from layered.foundation import BadValue, checked, full_tensor, shard_like
from layered.optim.groups import HyperValue, Params
from layered.optim.optimizer import Optimizer
from layered.optim.stats import average_grad, average_sqr_grad, mean_grad
from layered.optim.steppers import adam_step, decay
from layered.optim.update import Slab

HIDDEN = "hidden matrix"
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the odd polynomial a x + b x^3 + c x^5, whose iteration takes every singular value in (0, 1] near 1."""


class Muon(Optimizer):
    """Momentum whose matrix is replaced by the nearest orthogonal one, for hidden layers; Adam for other parameters.

    Hidden are the weights of linear and convolutional layers, one row an output, but for depthwise convolutions. A `Learner`
    leaves embeddings and the last layer to Adam, as it should be; without one, call `opt.adapt_to(model)`.
    The steps of both have the same size, so that rates and weight decay that suit Adam suit Muon.

    Args:
        params: Tensors, or groups of them (see `zoo`).
        lr: Learning rate: a number, a slice or one for each group.
        mom: Momentum; for other parameters Adam's.
        sqr_mom: Adam's, for other parameters.
        eps: Adam's, for other parameters.
        wd: Weight decay.
        decouple_wd: Shrink the parameters themselves; otherwise add wd * param to the gradients.
        fused: Run Adam's steps by one kernel of torch; False runs the formulas.

    Raises:
        BadValue: A parameter has no shape yet, as in torch's lazy layers.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; the size of the steps: Liu et al. 2025,
    arXiv:2502.16982

    Examples:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> opt = Muon(model.parameters(), lr=1e-3)
        >>> opt.adapt_to(model)
        >>> ["kind" in opt.state[p] for p in model.parameters()]
        [True, False, True, False, False, False]
    """

    @checked
    def __init__(
        self,
        params: Params,
        lr: HyperValue,
        mom: float = 0.95,
        sqr_mom: float = 0.99,
        eps: float = 1e-5,
        wd: float = 0.01,
        decouple_wd: bool = True,
        fused: bool = True,
    ) -> None:
        adam = [decay(decouple_wd), mean_grad, average_sqr_grad, adam_step]
        hidden = [decay(decouple_wd), average_grad, muon_step]
        super().__init__(
            params,
            adam,
            kinds={HIDDEN: hidden},
            fused=fused,
            lr=lr,
            mom=mom,
            sqr_mom=sqr_mom,
            eps=eps,
            wd=wd,
        )
        for p in chain.from_iterable(self.param_lists):
            if is_lazy(p):
                raise BadValue(
                    "a parameter has no shape yet, which says whether it is a matrix",
                    fix="run a batch through the model before the optimizer is made",
                )
            if is_matrix(p):
                self.state[p]["kind"] = HIDDEN

    def adapt_to(self, model: nn.Module) -> None:
        """Leave the embeddings and the last layer of a model to Adam.

        Args:
            model: The model whose parameters the optimizer has.
        """
        layers = [module for module in model.modules() if any(p.dim() >= 2 for p in module.parameters(recurse=False))]
        for module in layers:
            if module is layers[-1] or isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
                for p in module.parameters(recurse=False):
                    self.state.get(p, {}).pop("kind", None)


def is_matrix(p: Tensor) -> bool:
    """Whether a parameter has several outputs, each with several inputs.

    Args:
        p: A parameter, shape [outputs, inputs, …].
    """
    return p.dim() >= 2 and min(p.shape[:2]) > 1


def muon_step(slab: Slab) -> None:
    """param <- param - lr * 0.2 * sqrt(max(rows, columns)) * orthogonal(grad + mom * grad_avg)

    where a kernel's rows are its outputs. An orthogonal matrix of that factor has elements of about the size of Adam's steps.

    Args:
        slab: The parameters to update.
    """
    steps = torch._foreach_add(slab.grads, slab["grad_avg"], alpha=slab.hyper["mom"])
    alike = defaultdict[torch.Size, list[tuple[Tensor, Tensor]]](list)
    for p, step in zip(slab.params, steps, strict=True):
        alike[p.shape].append((p, full_tensor(step).flatten(1)))
    for shape, pairs in alike.items():
        nearest = orthogonal(torch.stack([step for _, step in pairs]))
        rate = slab.hyper["lr"] * 0.2 * max(nearest.shape[1:]) ** 0.5
        for (p, _), step in zip(pairs, nearest, strict=True):
            p.sub_(shard_like(step.reshape(shape).to(p.dtype), p), alpha=rate)


def orthogonal(x: Tensor, iterations: int = 5) -> Tensor:
    """Matrices with the singular vectors of `x` and singular values near 1 (about 0.7 to 1.2).

    Computed by a Newton-Schulz iteration, in bfloat16 unless `x` is float64: its errors are small beside those of the iteration.

    Args:
        x: Shape [matrices, rows, columns].
        iterations: How often the polynomial is applied.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon

    Examples:
        >>> _ = torch.manual_seed(0); values = torch.linalg.svdvals(orthogonal(torch.randn(1, 8, 4)).float())
        >>> bool(((values > 0.5) & (values < 1.5)).all())
        True
    """
    a, b, c = COEFFICIENTS
    is_tall = x.shape[1] > x.shape[2]
    narrow = x if x.dtype is torch.float64 else x.bfloat16()
    x = narrow.mT if is_tall else narrow
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(iterations):
        square = x @ x.mT
        x = a * x + torch.baddbmm(square, square, square, beta=b, alpha=c) @ x
    return x.mT if is_tall else x

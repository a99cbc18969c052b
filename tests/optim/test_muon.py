"""Muon: orthogonal steps for hidden matrices, Adam's for the rest, and who is which."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from layered.basics import Embedding
from layered.foundation import BadValue
from layered.nn import MSELossFlat
from layered.optim import Adam, Muon
from layered.optim.muon import HIDDEN, orthogonal
from layered.testing import synth_dls
from layered.training import Learner
from layered.vision import xresnet18


def hidden(model, opt=None):
    if opt is None:
        opt = Muon(model.parameters(), lr=0.1)
        opt.adapt_to(model)
    return [name for name, p in model.named_parameters() if opt.state[p].get("kind") == HIDDEN]


def follow(opt, others, params, twins, steps=20):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for p, twin in zip(params, twins, strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            twin.grad = p.grad.clone()
        for one in (opt, *others):
            one.step()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
@pytest.mark.parametrize("shape", [(20, 30), (40, 10), (8, 8)])
def test_matrices_follow_torch_muon_and_others_torch_adamw(shape):
    torch.manual_seed(0)
    params = [torch.randn(shape).requires_grad_() for _ in range(2)] + [torch.randn(7).requires_grad_()]
    twins = [p.detach().clone().requires_grad_() for p in params]
    opt = Muon(params, lr=1e-2, mom=0.9, wd=0.1)
    muon = torch.optim.Muon(twins[:2], lr=1e-2, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(twins[2:], lr=1e-2, betas=(0.9, 0.99), eps=1e-5, weight_decay=0.1)
    begun = [p.detach().clone() for p in params]
    follow(opt, (muon, adamw), params, twins)
    assert_close(params[2], twins[2])
    for p, twin, first in zip(params[:2], twins, begun, strict=False):  # torch computes in bfloat16
        assert (p - twin).norm() < 0.02 * (p - first).norm()


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (6, 6)])
def test_the_step_is_near_the_orthogonal_matrix_of_the_singular_vectors(shape):
    torch.manual_seed(0)
    x = torch.randn(3, *shape, dtype=torch.float64)
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    found = u.mT @ orthogonal(x) @ vh.mT
    values = found.diagonal(dim1=1, dim2=2)
    assert ((values > 0.6) & (values < 1.3)).all()
    assert_close(found - torch.diag_embed(values), torch.zeros_like(found), rtol=0, atol=1e-9)
    assert not orthogonal(torch.zeros(1, *shape)).any()


def test_kernels_of_convolutions_are_matrices_with_a_row_for_each_output():
    torch.manual_seed(0)
    conv, matrix = torch.randn(6, 4, 3, 3).requires_grad_(), torch.zeros(6, 36).requires_grad_()
    matrix.data.copy_(conv.detach().flatten(1))
    conv.grad = torch.randn_like(conv)
    matrix.grad = conv.grad.flatten(1)
    Muon([conv], lr=0.1).step()
    Muon([matrix], lr=0.1).step()
    assert_close(conv.flatten(1), matrix)


def test_hidden_are_the_matrices_between_the_embeddings_and_the_last_layer():
    model = nn.ModuleDict(
        {
            "emb": Embedding(10, 4),
            "words": nn.Embedding(9, 4),
            "conv": nn.Conv2d(2, 4, 3),
            "depthwise": nn.Conv2d(4, 4, 3, groups=4),
            "lstm": nn.LSTM(4, 4),
            "attention": nn.MultiheadAttention(4, 2),
            "norm": nn.LayerNorm(4),
            "scale": nn.Linear(4, 1),
            "head": nn.Linear(4, 3),
            "act": nn.PReLU(3),
        }
    )
    assert hidden(model) == [
        "conv.weight",
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
    ]


def test_tied_weights_of_an_embedding_and_the_last_layer_are_left_to_adam():
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9, bias=False))
    model[2].weight = model[0].weight
    assert hidden(model) == ["1.weight"]


def test_a_learner_says_which_is_the_last_layer_and_trains_with_it():
    model = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
    learn = Learner(synth_dls(), model, MSELossFlat(), opt_func="muon", lr=0.02)
    with learn.no_bar(), learn.no_logging():
        before = learn.validate()[0]
        learn.fit(3)
        assert learn.validate()[0] < before / 2
    assert hidden(model, learn.opt) == ["2.weight"]
    assert set(learn.opt.state[model[2].weight]) == {"kind", "grad_avg", "count"}  # half of Adam's memory
    learn.freeze()
    learn.unfreeze()
    assert hidden(model, learn.opt) == ["2.weight"]


def test_parameters_without_a_shape_are_refused():
    with pytest.raises(BadValue, match="no shape yet"):
        Muon(nn.Sequential(nn.LazyLinear(3)).parameters(), lr=0.1)


def test_a_convolutional_network_is_hidden_but_for_its_head():
    names = hidden(xresnet18(n_out=5))
    assert len(names) == 22
    assert not any(name.startswith("11.") for name in names)


def test_the_rate_means_what_it_means_to_adam():
    torch.manual_seed(0)
    a, b = torch.zeros(64, 48).requires_grad_(), torch.zeros(64, 48).requires_grad_()
    a.grad = torch.randn_like(a)
    b.grad = a.grad.clone()
    Muon([a], lr=1e-3).step()
    Adam([b], lr=1e-3).step()
    assert 0.15 < a.square().mean().sqrt() / b.square().mean().sqrt() < 0.3  # 0.2 in the paper

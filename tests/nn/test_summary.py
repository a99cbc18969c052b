import torch
from torch import nn

from layered.foundation import TensorImage
from layered.nn import module_summary


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.inner = nn.Linear(4, 4)

    def forward(self, x, y):
        x = self.inner(self.inner(x)) * self.scale
        return x, y


def test_rows_follow_the_order_of_running_and_count_parameters_once():
    model = Twice()
    model.inner.bias.requires_grad_(False)
    summary = module_summary(model, torch.zeros(2, 4), torch.zeros(2, 3))
    assert [(r.name, r.kind, r.params) for r in summary.rows] == [
        ("inner", "Linear", 20),
        ("inner", "Linear", 0),
        ("", "Twice", 4),
    ]
    assert summary.rows[-1].shapes == [(2, 4), (2, 3)]
    assert (summary.total_params, summary.trainable_params) == (24, 20)
    assert summary.input_shapes == [(2, 4), (2, 3)]


def test_the_table_shows_shapes_parameters_and_totals():
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2).requires_grad_(False))
    text = str(module_summary(model, torch.zeros(2, 3, 3, 3)))
    lines = text.splitlines()
    assert lines[0] == "Sequential (input shape: 2 x 3 x 3 x 3)"
    assert [" ".join(line.split()) for line in lines if line.startswith(("0 ", "3 "))] == [
        "0 (Conv2d) 2 x 64 x 1 x 1 1,792 True 6.91 k",
        "3 (Linear) 2 x 2 130 False 512",
    ]
    assert lines[-4:] == [
        "Total params:         1,922",
        "Trainable params:     1,792",
        "Non-trainable params: 130",
        "Forward FLOPs:        7.42 k",
    ]


def test_a_summary_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout()).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    random = torch.get_rng_state()
    module_summary(model, torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    assert model.training
    assert model[0].training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


def test_models_see_plain_tensors():
    seen = []

    class Looking(nn.Module):
        def forward(self, x):
            seen.append(type(x))
            return x

    module_summary(Looking(), TensorImage(torch.zeros(1, 3, 2, 2)))
    assert seen == [torch.Tensor]


def test_the_cost_is_two_operations_for_each_multiply_add():
    summary = module_summary(Twice(), torch.zeros(2, 4), torch.zeros(2, 3))
    assert [row.flops for row in summary.rows] == [2 * 2 * 4 * 4, 2 * 2 * 4 * 4, 0]
    conv = module_summary(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1)), torch.zeros(5, 3, 10, 10))
    assert conv.total_flops == 2 * 5 * 10 * 10 * 8 * 3 * 3 * 3


def test_the_group_of_each_layer_is_shown():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    groups = [list(model[0].parameters()), list(model[2].parameters())]
    summary = module_summary(model, torch.zeros(1, 3), groups=groups)
    assert [row.group for row in summary.rows] == [0, None, 1]
    assert str(summary).splitlines()[2].split()[-1] == "Group"


def test_inputs_may_be_passed_by_name():
    assert module_summary(Twice(), x=torch.zeros(2, 4), y=torch.zeros(2, 3)).total_params == 24

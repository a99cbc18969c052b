"""Grad-CAM: against the formula on paper, other ways to the gradient, and a photograph whose object stands at a known place."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.testing import assert_close
from torchvision.models import resnet18, squeezenet1_1, swin_t, vit_b_32

from layered.foundation import BadArgument, BadValue, CannotTrain, UnknownName
from layered.integrations import timm_stats
from layered.integrations.timm_models import PACKAGED_WEIGHTS
from layered.loop import Loop
from layered.vision.all import create_vision_model, grad_cam, show_grad_cam

plt.switch_backend("Agg")

X = torch.rand(3, 3, 32, 40, generator=torch.Generator().manual_seed(0))


def tiny(inplace=False):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(inplace=inplace)),
        nn.Dropout2d(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


def on_paper(model, x, target):
    """Behind average pooling and a linear layer the gradient is the class's weight over the number of places."""
    model.eval()
    with torch.no_grad():
        maps = F.relu(torch.einsum("c,bchw->bhw", model[-1].weight[target], model[0](x)))
    model.train()
    return maps / maps.amax((1, 2), keepdim=True)


@pytest.mark.parametrize("target", [0, 3])
def test_behind_a_linear_head_it_is_the_weighted_sum_of_the_maps(target):
    model = tiny()
    cam = grad_cam(model, X, target=target)
    assert_close(cam, on_paper(model, X, target))
    assert_close(cam.amax((1, 2)), torch.ones(3))
    assert cam.min() == 0


def test_each_image_may_have_its_own_class_by_default_the_likeliest():
    model = tiny()
    each = torch.stack([on_paper(model, X, t)[i] for i, t in enumerate((4, 0, 2))])
    assert_close(grad_cam(model, X, target=[4, 0, 2]), each)
    assert_close(grad_cam(model, X, target=torch.tensor([4, 0, 2])), each)
    model.eval()
    likeliest = model(X).argmax(1)
    assert_close(grad_cam(model, X), grad_cam(model, X, target=likeliest))


def test_any_layer_can_be_looked_at_by_name_or_as_a_module():
    model = tiny(inplace=True).eval()
    kept = {}
    hook = model[0][0].register_forward_hook(
        lambda m, i, o: kept.update(maps=o.detach().clone().requires_grad_()) or kept["maps"] * 1
    )
    scores = model(X)
    hook.remove()
    (gradient,) = torch.autograd.grad(scores[:, 1].sum(), kept["maps"])
    wanted = F.relu((gradient.mean((2, 3), keepdim=True) * kept["maps"].detach()).sum(1))
    wanted = wanted / wanted.amax((1, 2), keepdim=True).clamp(min=1e-30)
    assert_close(grad_cam(model, X, "0.0", 1), wanted)
    assert_close(grad_cam(model, X, model[0][0], 1), wanted)


def test_a_map_can_be_as_large_as_the_image():
    small, large = grad_cam(tiny(), X), grad_cam(tiny(), X, upsample=True)
    assert small.shape == (3, 15, 19)
    assert_close(large, F.interpolate(small[:, None], size=(32, 40), mode="bilinear")[:, 0])


def test_a_class_that_nothing_speaks_for_has_a_map_of_zeros():
    model = tiny()
    nn.init.constant_(model[-1].weight, -1.0)
    assert grad_cam(model, X, target=1).eq(0).all()


@pytest.mark.parametrize("frozen", [False, True])
def test_the_model_is_as_it_was(frozen):
    model = tiny().requires_grad_(not frozen)
    model[1].eval()
    model[-1].weight.grad = torch.ones_like(model[-1].weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes, random = [m.training for m in model.modules()], torch.get_rng_state()
    grad_cam(model, X)
    with pytest.raises(BadValue):
        grad_cam(model, X, "3")
    assert_close(model.state_dict(), before)
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == [not frozen] * 6
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["4.weight"]
    assert torch.equal(model[-1].weight.grad, torch.ones(5, 8))
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled()


def test_neither_inference_mode_nor_compilation_stands_in_the_way():
    model = tiny()
    wanted = grad_cam(model, X)
    with torch.inference_mode():
        assert_close(grad_cam(model, X.clone()), wanted)
    model.compile(backend="eager")
    model(X)
    model.load_state_dict(tiny().state_dict())
    assert_close(grad_cam(model, X), wanted)
    assert model._compiled_call_impl is not None


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (resnet18, (2, 3)),
        (squeezenet1_1, (3, 5)),
        (swin_t, (2, 3)),
        (lambda: create_vision_model(resnet18, 5, pretrained=False), (2, 3)),
        (lambda: create_vision_model("tf_efficientnet_lite0", 5, pretrained=False), (2, 3)),
        (lambda: pytest.importorskip("timm").create_model("swin_tiny_patch4_window7_224", img_size=(64, 96)), (2, 3)),
    ],
    ids=["resnet", "squeezenet", "swin", "vision model", "timm body", "channels last"],
)
def test_the_last_map_of_many_models_is_found(make, size):
    pytest.importorskip("timm")
    torch.manual_seed(0)
    model = make()
    x = torch.rand(1, 3, 64, 96)
    assert grad_cam(model, x).shape == (1, *size)


def test_the_map_lies_on_the_object():
    timm, datasets = pytest.importorskip("timm"), pytest.importorskip("sklearn.datasets")
    weights = PACKAGED_WEIGHTS["tf_efficientnet_lite0"]("tf_efficientnet_lite0")
    if weights is None:
        pytest.skip("the weights come with the extra quickstart")
    model = timm.create_model("tf_efficientnet_lite0")
    model.load_state_dict(weights)
    flower, sky = (Image.fromarray(datasets.load_sample_image(name)) for name in ("flower.jpg", "china.jpg"))
    flower = flower.crop((150, 20, 510, 420)).resize((96, 96))
    places, pictures = [(16, 16), (112, 112)], []
    for place in places:
        picture = sky.crop((400, 0, 640, 100)).resize((224, 224))
        picture.paste(flower, place)
        pictures.append(torch.tensor(np.array(picture)).permute(2, 0, 1) / 255)
    mean, std = (torch.tensor(values)[:, None, None] for values in timm_stats("tf_efficientnet_lite0"))
    cams = grad_cam(model, (torch.stack(pictures) - mean) / std, target=985, upsample=True)  # "daisy", as flowers go
    for cam, (left, top) in zip(cams, places, strict=True):
        row, column = ((weights * torch.arange(224)).sum() / weights.sum() for weights in (cam.sum(1), cam.sum(0)))
        assert top < row < top + 96
        assert left < column < left + 96
        assert cam[top : top + 96, left : left + 96].mean() > 3 * cam.mean()


def test_models_without_a_map_are_named():
    with pytest.raises(BadValue, match=r"tokens \[1, 5, 768\]"):
        grad_cam(vit_b_32(image_size=64), torch.rand(1, 3, 64, 64))
    with pytest.raises(BadValue, match="has no feature map"):
        grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), torch.rand(2, 3, 1, 1))
    with pytest.raises(BadValue, match="one score for each class"):
        grad_cam(nn.Conv2d(3, 2, 1), X)


@pytest.mark.parametrize("x", [X[0], (X * 255).byte(), None, X[:0]], ids=["one", "bytes", "none", "empty"])
def test_what_is_no_batch_of_images_is_named(x):
    with pytest.raises(BadValue, match=r"float \[batch, channel, height, width\]"):
        grad_cam(tiny(), x)


def test_layers_and_classes_that_do_not_exist_are_named():
    model = tiny()
    with pytest.raises(UnknownName, match=r"'0\.3'"):
        grad_cam(model, X, "0.3")
    with pytest.raises(BadArgument, match="layer is a module"):
        grad_cam(model, X, nn.Conv2d(3, 8, 3))
    with pytest.raises(BadValue, match="is not a feature map"):
        grad_cam(model, X, "4")
    for target in (5, -1, 1.5, [0, 1]):
        with pytest.raises(BadValue, match="from 0 to 4"):
            grad_cam(model, X, target=target)
    with pytest.raises(BadValue, match="are not known"):
        grad_cam(model, X, target="cat")


def test_a_learner_knows_the_labels_and_draws_the_map_over_the_image(learn, dls):
    items = list(dls.valid_ds.items)[:4]
    batch = dls.test_dl(items).one_batch()[0]
    assert_close(learn.grad_cam(batch, target="red"), grad_cam(learn.model, batch, target=2))
    with pytest.raises(UnknownName, match="did you mean 'green'"):
        learn.grad_cam(batch, target="gren")
    learn.show_grad_cam(items)
    axes = plt.gcf().axes[: len(items)]
    preds = learn.get_preds(dl=dls.test_dl(items))[0]
    assert [ax.get_title() for ax in axes] == [f"{dls.vocab[int(row.argmax())]} {row.max():.2f}" for row in preds]
    shown = np.stack([ax.images[1].get_array() for ax in axes])
    assert_close(torch.tensor(shown), learn.grad_cam(batch, upsample=True))
    show_grad_cam(learn, items[0], target="blue")
    (ax,) = plt.gcf().axes
    assert ax.get_title() == f"blue {preds[0, 0]:.2f}"
    plt.close("all")


def test_loaders_that_do_not_know_items_are_named():
    with pytest.raises(CannotTrain, match="DataBlock"):
        show_grad_cam(Loop(([(X, X)], None), tiny(), nn.MSELoss()), "a.png")

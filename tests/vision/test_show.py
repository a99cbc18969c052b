"""What is drawn: the titles, the colours and the grids."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch

from layered.data import (
    Category,
    CategoryBlock,
    DataBlock,
    MultiCategory,
    TfmdDL,
    TfmdLists,
    TransformBlock,
)
from layered.foundation import (
    BadArgument,
    TensorBase,
    TensorCategory,
    TensorImage,
    TensorImageBW,
    TensorMask,
    TensorMultiCategory,
    TitledTensorScalar,
    fastuple,
    show_image,
    verb,
)
from layered.vision import PILImageBW, PILMask
from layered.vision.show import plot_top_losses

show_batch, show_results = verb("show_batch"), verb("show_results")


@pytest.fixture(autouse=True)
def _no_window():
    mpl.use("Agg")
    yield
    plt.close("all")


def image() -> TensorImage:
    return TensorImage(torch.rand(3, 8, 8))


def colours(axes) -> list[str]:
    return [ax.title.get_color() for ax in axes]


def titles(axes) -> list[str]:
    return [ax.get_title() for ax in axes]


X, Y = TensorImage(torch.rand(4, 3, 8, 8)), TensorCategory([0, 1, 0, 1])


def test_a_batch_is_a_grid_with_labels_as_titles():
    samples = [(image(), Category(label)) for label in "abcdefghij"]
    axes = show_batch(X, Y, samples, max_n=9)
    assert titles(axes) == list("abcdefghi")
    assert axes[0].figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == (3, 3)
    assert all(len(ax.images) == 1 for ax in axes)


def test_several_labels_and_plain_numbers_are_titles_too():
    samples = [(image(), MultiCategory(["a", "b"])), (image(), TitledTensorScalar(torch.tensor(1.5)))]
    assert titles(show_batch(X, None, samples)) == ["a;b", "1.5"]


def test_masks_are_drawn_over_their_image():
    samples = [(image(), TensorMask(torch.ones(8, 8, dtype=torch.int64)))]
    (ax,) = show_batch(X, TensorMask(torch.ones(4, 8, 8, dtype=torch.int64)), samples)
    assert [im.get_alpha() for im in ax.images] == [None, 0.5]


def test_images_that_become_images_stand_side_by_side():
    axes = show_batch(X, X, [(image(), image())] * 2)
    assert titles(axes) == ["Input", "Target"] * 2


def test_results_are_green_where_right_and_red_where_wrong():
    samples = [(image(), Category("cat")), (image(), Category("dog"))]
    axes = show_results(X, Y, samples, [(Category("cat"),), (Category("cat"),)])
    assert titles(axes) == ["cat\ncat", "dog\ncat"]
    assert colours(axes) == ["green", "red"]


def test_numbers_are_neither_right_nor_wrong():
    number = TitledTensorScalar(torch.tensor(1.0))
    assert colours(show_results(X, torch.ones(4), [(image(), number)], [(number,)])) == ["black"]


def test_results_of_masks_stand_beside_their_target():
    mask = TensorMask(torch.ones(8, 8, dtype=torch.int64))
    axes = show_results(X, mask[None], [(image(), mask)] * 2, [(mask,)] * 2)
    assert titles(axes) == ["Target", "Prediction"] * 2


def test_the_highest_losses_name_prediction_and_target():
    samples, outs = [(image(), Category("cat"))], [(Category("dog"),)]
    (ax,) = plot_top_losses(X, Y, samples, outs, torch.tensor([[0.1, 0.9]]), torch.tensor([2.25]))
    assert ax.get_title() == "dog/cat\n2.25 / 0.90"
    assert ax.figure.get_suptitle() == "Prediction/Actual/Loss/Probability"


def test_the_title_of_the_figure_stands_above_those_of_the_axes():
    samples, outs = [(image(), Category("cat"))] * 2, [(Category("dog"),)] * 2
    axes = plot_top_losses(X, Y, samples, outs, torch.tensor([[0.1, 0.9]] * 2), torch.tensor([2.25, 1.0]))
    figure = axes[0].figure
    figure.canvas.draw()
    assert figure._suptitle.get_window_extent().y0 > axes[0].title.get_window_extent().y1


def test_more_than_nine_of_the_highest_losses_are_drawn_if_asked_for():
    samples, outs = [(image(), Category("cat"))] * 12, [(Category("dog"),)] * 12
    axes = plot_top_losses(X, Y, samples, outs, torch.tensor([[0.1, 0.9]] * 12), [1.0] * 12)
    assert [len(ax.images) for ax in axes] == [1] * 12


def test_a_misspelt_keyword_is_refused_with_the_one_that_was_meant():
    with pytest.raises(BadArgument, match="did you mean 'nrows'"):
        show_batch(X, Y, [(image(), Category("a"))], nrow=2)


def loss_titles(y, target, prediction, raw):
    return titles(plot_top_losses(X, y, [(image(), target)], [(prediction,)], [torch.tensor(raw)], [2.25]))


def test_scores_become_probabilities_in_the_titles_of_the_highest_losses():
    scores = [1.0, 3.0]
    wanted = torch.tensor(scores).softmax(0).max()
    assert loss_titles(Y, Category("cat"), Category("dog"), scores) == [f"dog/cat\n2.25 / {wanted:.2f}"]
    assert loss_titles(Y, Category("cat"), Category("dog"), [0.2]) == ["dog/cat\n2.25 / 0.80"]


def test_the_highest_losses_of_numbers_have_no_probability():
    number, other = TitledTensorScalar(torch.tensor(1.5)), TitledTensorScalar(torch.tensor(2.0))
    assert loss_titles(torch.ones(4), number, other, 2.0) == ["2/1.5\n2.25"]
    assert loss_titles(torch.ones(4, 2), torch.tensor([1.0, 0.25]), torch.tensor([0.0, 2.0]), 2.0) == [
        "0, 2/1, 0.25\n2.25"
    ]
    assert plt.gcf().get_suptitle() == "Prediction/Actual/Loss"


def test_the_highest_losses_of_several_labels_come_with_a_table(capsys):
    y = TensorMultiCategory(torch.tensor([[1.0, 0, 1], [0, 0, 0]]))
    samples = [(image(), MultiCategory(["cat", "red"])), (image(), MultiCategory([]))]
    outs = [(MultiCategory(["dog", "red"]),), (MultiCategory(["cat"]),)]
    axes = plot_top_losses(X, y, samples, outs, torch.tensor([[0.1, 0.9, 0.8], [0.6, 0.2, 0.3]]), [1.5, 0.25])
    assert titles(axes) == ["Image 0\n1.50", "Image 1\n0.25"]
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()[3:5]]
    assert [[cell.strip() for cell in row if cell.strip()] for row in rows] == [
        ["Image 0", "cat;red", "dog;red", "cat 0.10, red 0.80, dog 0.90", "1.50"],
        ["Image 1", "(none)", "cat", "cat 0.60", "0.25"],
    ]


def test_results_without_labels_say_so():
    samples = [(image(), MultiCategory([]))]
    y = TensorMultiCategory(torch.zeros(1, 2))
    assert titles(show_results(X, y, samples, [(MultiCategory(["a"]),)])) == ["(none)\na"]


def test_several_targets_stand_in_one_title():
    pair = Category("cat"), TitledTensorScalar(torch.tensor(1.5))
    said = Category("dog"), TitledTensorScalar(torch.tensor(2.0))
    assert titles(show_results(X, (Y, Y), [(image(), *pair)], [said])) == ["cat, 1.5\ndog, 2"]
    assert titles(plot_top_losses(X, (Y, Y), [(image(), *pair)], [said], [None], [1.0])) == ["dog, 2/cat, 1.5\n1.00"]


def test_masks_and_images_with_the_highest_losses_stand_in_rows_of_three():
    mask = TensorMask(torch.ones(8, 8, dtype=torch.int64))
    axes = plot_top_losses(X, mask[None], [(image(), mask)] * 2, [(mask,)] * 2, [None] * 2, [1.0, 0.5])
    assert titles(axes) == ["", "", "loss 1.00", "", "", "loss 0.50"]
    assert [len(ax.images) for ax in axes] == [1, 2, 2] * 2
    axes = plot_top_losses(X, X, [(image(), image())], [(image(),)], [None], [1.0])
    assert [len(ax.images) for ax in axes] == [1, 1, 1]
    assert plt.gcf().get_suptitle() == "Input | Target | Prediction"


def test_results_of_images_that_become_images_are_input_target_and_prediction():
    three = [image() for _ in range(3)]
    axes = show_results(X, X, [(three[0], three[1])], [(three[2],)])
    assert titles(axes) == ["Input", "Target", "Prediction"]
    for ax, picture in zip(axes, three, strict=True):
        assert (ax.images[0].get_array() == picture.permute(1, 2, 0).numpy()).all()


def test_a_class_has_the_same_colour_in_every_mask():
    def colour(mask, **kwargs):
        drawn = mask.show(**kwargs).images[0]
        return drawn.cmap(drawn.norm(drawn.get_array()))[0, 0]

    few, many = TensorMask(torch.tensor([[2, 0]])), TensorMask(torch.tensor([[2, 255]], dtype=torch.uint8))
    assert (colour(few) == colour(many)).all()
    assert (colour(few) != colour(TensorMask(torch.tensor([[1, 0]])))).any()
    assert (colour(few, vmin=0, vmax=2) != colour(many, vmin=0, vmax=255)).any()


def test_given_axes_are_drawn_on():
    _, axes = plt.subplots(1, 2)
    assert show_batch(X, Y, [(image(), Category("a"))] * 2, ctxs=list(axes)) == list(axes)


def test_a_masks_own_show_draws_on_the_given_axes():
    _, ax = plt.subplots()
    mask = PILMask.create(torch.zeros(4, 4, dtype=torch.uint8))
    assert mask.show(ctx=ax) is ax
    assert ax.images[0].get_cmap().name == "tab20"


def test_what_no_body_fits_says_how_to_add_one():
    with pytest.raises(BadArgument, match="@typedispatch"):
        verb("show_sounds")(torch.zeros(1), 3)


def test_masks_have_a_legend_of_the_classes_that_occur():
    mask = TensorMask(torch.tensor([[0, 2], [2, 0]]), codes=["sky", "car", "tree"])
    axes = show_results(X, mask[None], [(image(), mask)] * 2, [(mask,)] * 2)
    (legend,) = axes[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["sky", "tree"]
    drawn = axes[0].images[-1]
    colors = drawn.cmap(drawn.norm(drawn.get_array()))
    assert [patch.get_facecolor() for patch in legend.get_patches()] == [tuple(colors[0, 0]), tuple(colors[0, 1])]
    ((alone,),) = [TensorMask(mask).show().figure.legends]
    assert len(alone.get_texts()) == 2


def test_the_first_classes_differ_in_hue():
    drawn = TensorMask(torch.tensor([[0, 1]])).show().images[0]
    (red, _, blue, _), other = drawn.cmap(drawn.norm(drawn.get_array()))[0]
    assert blue > red
    assert other[0] > other[2]


def test_drawing_arguments_reach_masks_and_pictures_without_one():
    mask = TensorMask(torch.ones(8, 8, dtype=torch.int64))
    samples = [(image(), mask)]
    (ax,) = show_batch(X, mask[None], samples, cmap="Reds", vmin=1, vmax=30, alpha=0.8)
    below, above = ax.images
    assert below.get_alpha() is None
    assert (above.get_cmap().name, above.get_clim(), above.get_alpha()) == ("Reds", (1, 30), 0.8)
    axes = show_results(X, mask[None], samples, [(mask,)], alpha=0.25, figsize=(5, 3))
    assert [ax.images[1].get_alpha() for ax in axes] == [0.25, 0.25]
    assert tuple(axes[0].figure.get_size_inches()) == (5, 3)
    grey = TensorImageBW(torch.rand(1, 8, 8))
    (ax,) = show_batch(TensorImageBW(torch.rand(1, 1, 8, 8)), Y, [(grey, Category("a"))], cmap="viridis", title="Greys")
    assert ax.images[0].get_cmap().name == "viridis"
    assert ax.figure.get_suptitle() == "Greys"


def test_grey_pictures_share_one_scale_from_black_to_white():
    dark = TensorImageBW(torch.full((1, 2, 2), 0.25))
    for picture, limits in ((dark, (0, 1)), (TensorImage(dark), (0, 1)), (dark.mul(255).byte(), (0, 255))):
        drawn = picture.show().images[0]
        assert (drawn.get_cmap().name, drawn.get_clim()) == ("gray", limits)
    drawn = PILImageBW.create(torch.full((4, 4), 64, dtype=torch.uint8)).show().images[0]
    assert (drawn.get_cmap().name, drawn.get_clim()) == ("gray", (0, 255))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 12])
def test_the_headline_stands_right_above_the_titles(count):
    axes = show_results(X, Y, [(image(), Category("cat"))] * count, [(Category("dog"),)] * count)
    figure = axes[0].figure
    figure.canvas.draw()
    gap = figure._suptitle.get_window_extent().y0 - axes[0].title.get_window_extent().y1
    assert 0 < gap < 0.2 * figure.dpi


def test_two_pictures_of_an_input_stand_side_by_side():
    samples = [(image(), image(), Category("cat"))] * 2
    axes = show_batch((X, X), Y, samples)
    assert titles(axes) == ["cat", ""] * 2
    assert [len(ax.images) for ax in axes] == [1] * 4
    axes = show_results((X, X), Y, samples, [(Category("dog"),)] * 2)
    assert titles(axes) == ["cat\ndog", ""] * 2


def test_a_mask_and_a_class_are_both_shown():
    mask = TensorMask(torch.ones(8, 8, dtype=torch.int64))
    samples = [(image(), mask, Category("cat"))]
    (ax,) = show_batch(X, (mask[None], Y), samples)
    assert (ax.get_title(), len(ax.images)) == ("cat", 2)
    axes = show_results(X, (mask[None], Y), samples, [(mask, Category("dog"))])
    assert titles(axes) == ["Target\ncat", "Prediction\ndog"]
    assert [len(ax.images) for ax in axes] == [2, 2]


class Pair(fastuple):
    """Two pictures and whether they are of one class, as in the tutorial on Siamese networks."""

    def show(self, ctx=None, **kwargs):
        left, right, *same = self
        return show_image(torch.cat([left, right], 2), title=str(bool(same[0])) if same else None, ctx=ctx, **kwargs)


def test_a_type_that_shows_itself_is_shown_without_being_registered():
    items = list(range(4))
    whole = TfmdLists(items, lambda i: Pair(image(), image(), torch.tensor(i % 2)), splits=[[0, 1], [2, 3]])
    dls = whole.dataloaders(bs=2)
    x, y, samples = dls.show_batch(show=False)
    assert (type(x), y, samples) == (Pair, None, None)
    axes = show_batch(x, y, samples)
    assert [ax.get_title() for ax in axes] in (["False", "True"], ["True", "False"])
    assert axes[0].images[0].get_array().shape == (8, 16, 3)

    blocks = TransformBlock(type_tfms=lambda i: Pair(image(), image())), CategoryBlock
    dls = DataBlock(blocks, get_y=lambda i: "ab"[i % 2]).dataloaders(list(range(8)), bs=2, num_workers=0)
    x, y, samples = dls.show_batch(show=False)
    assert all(isinstance(sample[0], Pair) for sample in samples)
    axes = show_batch(x, y, samples)
    assert all(ax.get_title() in "ab" and len(ax.images) == 1 for ax in axes)


class Sound(TensorBase):
    """A tensor with a picture of its own."""

    def show(self, ctx=None, **kwargs):
        ctx.plot(self.numpy())
        return ctx


def test_a_tensor_that_shows_itself_is_shown_with_its_target():
    block = TransformBlock(type_tfms=lambda i: Sound(torch.arange(5.0) * i))
    dls = DataBlock((block, CategoryBlock), get_y=lambda i: "ab"[i % 2]).dataloaders(
        list(range(8)), bs=4, num_workers=0
    )
    x, y, samples = dls.show_batch(show=False)
    axes = show_batch(x, y, samples)
    assert all(len(ax.lines) == 1 and ax.get_title() in "ab" for ax in axes)
    axes = show_results(x, y, samples, [(Category("a"),)] * 4)
    assert all(ax.get_title() in ("a\na", "b\na") for ax in axes)


def test_samples_without_a_picture_are_printed(capsys):
    TfmdDL(torch.arange(50), bs=4).show_batch()
    assert capsys.readouterr().out == "0\n1\n2\n3\n"
    show_batch(torch.zeros(2), Y, [(torch.tensor(0.5), Category("cat")), (torch.tensor(123456), Category("a"))])
    assert capsys.readouterr().out == "0.5     cat\n123456  a\n"
    show_results(torch.zeros(1), Y, [(torch.tensor(0.5), Category("cat"))], [(Category("dog"),)])
    assert capsys.readouterr().out == "0.5  cat  →  dog\n"

"""Pictures are drawn with the right pixels, on the right axes."""

from __future__ import annotations

import itertools

import matplotlib as mpl
import numpy as np
import pytest
import torch

mpl.use("Agg")
from matplotlib import pyplot as plt

from layered.foundation import (
    fit_title,
    get_grid,
    show_image,
    show_image_batch,
    show_images,
    show_title,
    show_titled_image,
    subplots,
)


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


def drawn(ax):
    return np.asarray(ax.images[0].get_array())


def test_channels_go_last_and_a_single_one_goes_away():
    image = torch.rand(3, 4, 5)
    assert np.allclose(drawn(show_image(image)), image.permute(1, 2, 0))
    assert drawn(show_image(torch.rand(1, 4, 5))).shape == (4, 5)
    assert drawn(show_image(torch.rand(4, 5))).shape == (4, 5)
    assert drawn(show_image(np.zeros((6, 7, 3), np.uint8))).shape == (6, 7, 3)
    assert drawn(show_image(torch.rand(3, 4, 5, dtype=torch.bfloat16))).shape == (4, 5, 3)


def test_colours_are_cut_to_what_can_be_seen():
    assert drawn(show_image(torch.tensor([-1.0, 0.5, 2.0]).reshape(3, 1, 1))).flatten().tolist() == [0, 0.5, 1]


def test_titles_stand_on_the_axes_one_below_the_other():
    ax = show_titled_image((torch.zeros(2, 2), "cat"))
    show_title("dog", ctx=ax, color="red")
    assert ax.get_title() == "cat\ndog"
    assert ax.title.get_color() == "red"


def test_a_grid_is_about_as_high_as_wide_and_hides_what_it_does_not_use():
    axes = get_grid(7)
    assert len(axes) == 7
    everything = axes[0].figure.axes
    assert len(everything) == 8
    assert [ax.axison for ax in everything] == [True] * 7 + [False]
    assert len(get_grid(3, double=True)) == 6
    assert len(get_grid(5, nrows=1)) == 5
    assert get_grid(2, title="here")[0].figure.get_suptitle() == "here"


def test_axes_are_always_an_array():
    assert subplots()[1].shape == (1,)
    assert subplots(2, 3)[1].shape == (2, 3)
    assert subplots(1, 2, imsize=2)[0].get_size_inches().tolist() == [4, 2]


def test_several_images_are_shown_with_their_titles():
    show_images([torch.zeros(2, 2), torch.ones(2, 2)], titles=["a", "b"])
    assert [ax.get_title() for ax in plt.gcf().axes] == ["a", "b"]


def test_a_batch_is_drawn_in_a_grid_with_its_labels():
    batch = torch.rand(5, 3, 8, 8), torch.arange(5)
    show_image_batch(batch, items=3, cols=2)
    assert [ax.get_title() for ax in plt.gcf().axes] == ["0", "1", "2", ""]
    assert plt.gcf().axes[1].images[0].get_array().shape == (8, 8, 3)


@pytest.mark.parametrize("title", ["a very long class name of things", "many;labels and;more labels;" * 4, "short"])
def test_a_long_title_stays_above_its_own_axes(title):
    figure, axes = subplots(1, 3, layout="compressed")
    for ax in axes:
        show_image(torch.rand(3, 8, 8), ax=ax, title=title)
        fit_title(ax)
    figure.canvas.draw()
    boxes = [ax.title.get_window_extent() for ax in axes]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
    assert "".join(axes[0].get_title().split()) == "".join(title.split())

"""A small untrained model of each application, exported; and a server for each."""

import numpy as np
import pandas as pd
import pytest
import torch
from asking import BAD_NAME
from torch import nn

from layered.collab.all import CollabDataLoaders, collab_learner
from layered.serve import serving
from layered.tabular.all import TabularDataLoaders, tabular_learner
from layered.text.all import AWD_LSTM, BaseTokenizer, TextDataLoaders, text_classifier_learner
from layered.vision.all import ImageDataLoaders, Resize, vision_learner

SMALL = {"emb_sz": 8, "n_hid": 8, "n_layers": 1}


def body(pretrained=False):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )


@pytest.fixture(scope="session")
def models(tmp_path_factory, pictures):
    """The files, by what they are about."""
    folder, rng = tmp_path_factory.mktemp("served"), np.random.default_rng(0)
    torch.manual_seed(0)
    table = pd.DataFrame(
        {
            "size": rng.normal(5, 2, 60),
            "colour": rng.choice(["pale", "deep"], 60),
            "kind": rng.choice([BAD_NAME, "b", "c"], 60),
        }
    )
    ratings = pd.DataFrame(
        {"user": rng.integers(0, 9, 90), "film": rng.choice(["Alien", "Dune"], 90), "rating": rng.integers(1, 6, 90)}
    )
    texts = pd.DataFrame({"text": ["a good film", "a bad film"] * 20, "label": ["yes", "no"] * 20})
    images = ImageDataLoaders.from_folder(
        pictures, valid_pct=0.25, seed=0, item_tfms=Resize(32), bs=8, num_workers=0, device="cpu"
    )
    rows = TabularDataLoaders.from_df(table, y_names="kind", seed=0, bs=16, device="cpu")
    reviews = TextDataLoaders.from_df(
        texts, text_col="text", label_col="label", seed=0, tok_tfm=BaseTokenizer(), bs=8, device="cpu"
    )
    made = {
        "image": vision_learner(images, body, pretrained=False, path=folder),
        "row": tabular_learner(rows, layers=[8], path=folder),
        "rating": collab_learner(CollabDataLoaders.from_df(ratings, seed=0, bs=32, device="cpu"), 4, path=folder),
        "text": text_classifier_learner(reviews, AWD_LSTM, pretrained=False, config=SMALL, path=folder),
    }
    return {name: learn.export(f"{name}.layered") for name, learn in made.items()}


def served(name):
    @pytest.fixture(scope="module", name=f"{name}_url")
    def fixture(models):
        with serving(models[name]) as url:
            yield url

    return fixture


image_url, row_url, rating_url, text_url = map(served, ("image", "row", "rating", "text"))

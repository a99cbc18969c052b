"""Images and texts among scikit-learn's tools: searches, scores, pickles, exports."""

import pickle

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from torch import nn

from layered.data import get_image_files, parent_label
from layered.foundation import BadArgument, BadValue
from layered.sklearn import ImageClassifier, TextClassifier
from layered.text import BaseTokenizer
from layered.training import load_learner


def net(pretrained=False):
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Linear(1, 1))


def of_images(**kwargs):
    settings = {"image_size": 16, "augment": False, "lr": 0.05, "batch_size": 6, "random_state": 0, "device": "cpu"}
    return ImageClassifier(
        net, pretrained=False, loaders__num_workers=0, learner__lin_ftrs=[8], **{**settings, **kwargs}
    )


def of_texts(**kwargs):
    settings = {"lr": 0.05, "max_epochs": 3, "batch_size": 8, "random_state": 0, "device": "cpu"}
    config = {"n_layers": 1, "n_hid": 8, "emb_sz": 6}
    parts = {"learner__config": config, "loaders__tok_tfm": BaseTokenizer, "loaders__num_workers": 0}
    return TextClassifier(pretrained=False, **{**settings, **parts, **kwargs})


TEXTS = [f"a {'good' if i % 2 else 'bad'} film{' so' * (i % 5)}" for i in range(24)]
FEELINGS = np.where(np.arange(24) % 2, "pos", "neg")


@pytest.fixture(scope="module")
def images(pictures):
    files = get_image_files(pictures)
    return list(files), list(map(parent_label, files))


def test_searches_and_scores_over_paths(images):
    assert cross_val_score(of_images(max_epochs=8), *images, cv=2, error_score="raise").mean() > 0.6
    search = GridSearchCV(
        of_images(max_epochs=1), {"lr": [0.01, 0.05], "learner__lin_ftrs": [[8], None]}, cv=2, error_score="raise"
    )
    assert search.fit(*images).best_params_.keys() == {"lr", "learner__lin_ftrs"}


def test_searches_and_scores_over_texts():
    assert (
        cross_val_score(of_texts(max_epochs=10, batch_size=4, learner__drop_mult=0.0), TEXTS, FEELINGS, cv=2).mean()
        > 0.8
    )
    search = GridSearchCV(of_texts(max_epochs=1), {"learner__drop_mult": [0.1, 0.5]}, cv=2, error_score="raise")
    search.fit(np.array(TEXTS), FEELINGS)
    assert search.predict_proba(pd.Series(TEXTS, name="text")).shape == (24, 2)


def test_pickles_and_exports_predict_the_same(images, tmp_path):
    for fitted, X, y in ((of_images(max_epochs=1), *images), (of_texts(max_epochs=1), TEXTS, FEELINGS)):
        expected = fitted.fit(X, y).predict_proba(X)
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(again.predict_proba(X), expected)
        assert set(again.predict(X)) <= set(y)
        learn = load_learner(fitted.export(tmp_path / "items"))
        np.testing.assert_allclose(learn.get_preds(dl=learn.dls.test_dl(X))[0], expected, atol=1e-5)
        assert list(learn.predict(X[0])[2].shape) == [len(fitted.classes_)]
        np.testing.assert_array_equal(clone(fitted).fit(X, y).predict_proba(X), expected)


def test_images_in_memory_and_classes_that_are_numbers(images):
    files, labels = images
    opened = [Image.open(file) for file in files]
    numbers = np.unique(labels, return_inverse=True)[1] * 10
    fitted = of_images(max_epochs=1).fit(opened, numbers)
    assert fitted.classes_.tolist() == [0, 10, 20]
    np.testing.assert_allclose(fitted.predict_proba(files), fitted.predict_proba(opened), atol=1e-5)


def test_bad_input_is_refused(images):
    with pytest.raises(NotFittedError):
        of_texts().predict(TEXTS)
    with pytest.raises(BadValue, match="differ in length"):
        of_texts().fit(TEXTS, FEELINGS[:-1])
    with pytest.raises(BadValue, match="only one class"):
        of_texts().fit(TEXTS, ["pos"] * 24)
    with pytest.raises(BadValue, match="several at once"):
        of_texts().fit("good film", ["pos"])
    with pytest.raises(BadArgument, match="lin_ftr"):
        of_images(learner__lin_ftr=[8]).fit(*images)
    with pytest.raises(BadValue, match="no parameter 'image_sise'"):
        of_images(image_sise=3)

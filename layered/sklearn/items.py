"""`ImageClassifier` and `TextClassifier`: trained models of images and texts as scikit-learn's estimators."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d
from torch import Tensor

from layered.data import CategoryBlock, DataLoaders
from layered.foundation import BadValue, Path, describe, lazy, seeded
from layered.sklearn.parts import pickled_state
from layered.sklearn.routing import Routed
from layered.training import Learner

pd, models, vision, text = map(lazy, ("pandas", "torchvision.models", "layered.vision", "layered.text"))


class ItemClassifier(ClassifierMixin, Routed):  # type: ignore[misc]
    """A classifier of items that a learner reads itself: files, images, texts.

    Args:
        arch: The model.
        pretrained: Start from trained weights, and train the head first.
        lr: The largest learning rate.
        max_epochs: Passes over the items.
        batch_size: Items per step, at most.
        metrics: As for `Learner`.
        random_state: A number makes fits repeatable; None draws anew.
        device: Where to train; a GPU if there is one.
        verbose: 1 shows a table of the epochs.
        parts: `loaders__…` and `learner__…`, the options of the loaders and of the function that makes the learner.

    Attributes:
        classes_: The classes, sorted.
        learner_: The trained learner.
    """

    learner_: Learner
    parts = ("loaders", "learner")

    def __init__(
        self,
        arch: Any = None,
        *,
        pretrained: bool = True,
        lr: float = 2e-3,
        max_epochs: int = 5,
        batch_size: int = 64,
        metrics: object = None,
        random_state: int | np.random.RandomState | None = None,
        device: str | torch.device | None = None,
        verbose: int = 0,
        **parts: Any,
    ) -> None:
        self.arch = arch
        self.pretrained = pretrained
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.metrics = metrics
        self.random_state = random_state
        self.device = device
        self.verbose = verbose
        self.set_params(**parts)

    def fit(self, X: Any, y: Any) -> Self:
        """Train from the beginning: a pretrained model by `fine_tune`, another one by `fit_one_cycle`.

        Args:
            X: The items: a list, an array or a column.
            y: The class of each.

        Raises:
            BadValue: Items and classes differ in number, or there is a single class.
        """
        items, y = _listed(X), column_or_1d(y, warn=True)
        check_classification_targets(y)
        if len(items) != len(y):
            raise BadValue("X and y differ in length", got=f"{len(items)} items and {len(y)} classes")
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise BadValue("there is only one class, so there is nothing to classify", got=self.classes_.tolist())
        block = CategoryBlock(vocab=self.classes_.tolist(), sort=False)
        seed = int(check_random_state(self.random_state).randint(2**31))
        options = {
            "bs": min(self.batch_size, len(items)),
            "valid_pct": 0,
            "device": self.device,
            **self.routed("loaders"),
        }
        with seeded(seed), ExitStack() as quiet:
            dls = self._loaders(items, y.tolist(), block, options)
            learn = self._learner(dls, {"metrics": self.metrics, "seed": seed, **self.routed("learner")})
            if not self.verbose:
                quiet.enter_context(learn.no_bar())
                quiet.enter_context(learn.no_logging())
            if self.pretrained:
                learn.fine_tune(self.max_epochs, self.lr)
            else:
                learn.fit_one_cycle(self.max_epochs, self.lr)
        self.learner_ = learn
        return self

    def predict_proba(self, X: Any) -> np.ndarray[Any, Any]:
        """The probability of each class, [item, class].

        Args:
            X: As for `fit`.
        """
        check_is_fitted(self, "learner_")
        learn, items = self.learner_, _listed(X)
        with learn.no_bar(), learn.no_logging():
            preds: Tensor = learn.get_preds(dl=learn.dls.test_dl(self._new(items)))[0]
        found: np.ndarray[Any, Any] = preds.numpy()
        return found

    def predict(self, X: Any) -> np.ndarray[Any, Any]:
        """The most probable class of each item, [item].

        Args:
            X: As for `fit`.
        """
        best = self.predict_proba(X).argmax(1)
        found: np.ndarray[Any, Any] = self.classes_[best]
        return found

    def export(self, fname: str | os.PathLike[str]) -> Path:
        """Write model, transforms and classes to a file, as data, which `load_learner` opens; see `Learner.export`.

        Args:
            fname: The file.

        Raises:
            NotExportable: A part has no registered name; nothing is written.
            CannotSave: The file cannot be written.
        """
        check_is_fitted(self, "learner_")
        return self.learner_.export(fname)

    def _loaders(self, items: list[Any], labels: list[Any], block: Any, options: dict[str, Any]) -> DataLoaders:
        """The loaders of all items."""
        raise NotImplementedError

    def _learner(self, dls: DataLoaders, options: dict[str, Any]) -> Learner:
        """The learner before training."""
        raise NotImplementedError

    def _new(self, items: list[Any]) -> Any:
        """New items as the loaders take them."""
        return items

    def __getstate__(self) -> dict[str, Any]:
        """Without the items."""
        return pickled_state(super().__getstate__())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.no_validation = True  # the loaders check the items
        return tags


class ImageClassifier(ItemClassifier):
    """A classifier of images, given by their paths or as `PIL` images.

    Args:
        arch: The model: the name of one of timm's, or a function of torchvision; `resnet18` by default.
        image_size: Images are cut to squares of this size.
        augment: Train on images that are flipped, turned, zoomed and lit at random.
        params: As for `ItemClassifier`: `lr`, `max_epochs`, …; `loaders__…`, such as `loaders__num_workers`, and `learner__…`,
            the options of `vision_learner`.

    Examples:
        >>> from PIL import Image
        >>> colours = ["red", "blue"] * 8
        >>> X = [Image.new("RGB", (16, 16), colour) for colour in colours]
        >>> net = ImageClassifier(image_size=16, pretrained=False, augment=False, max_epochs=1, batch_size=8, device="cpu")
        >>> net.set_params(loaders__num_workers=0).fit(X, colours).predict_proba(X).shape
        (16, 2)
    """

    def __init__(
        self,
        arch: str | Callable[..., Any] | None = None,
        *,
        image_size: int = 224,
        augment: bool = True,
        **params: Any,
    ) -> None:
        self.image_size, self.augment = image_size, augment
        super().__init__(arch, **params)

    @classmethod
    def _get_param_names(cls) -> list[str]:
        return sorted([*ItemClassifier._get_param_names(), "image_size", "augment"])

    def _loaders(self, items: list[Any], labels: list[Any], block: Any, options: dict[str, Any]) -> DataLoaders:
        batch_tfms = vision.aug_transforms() if self.augment else None
        settings = {"item_tfms": vision.Resize(self.image_size), "batch_tfms": batch_tfms, **options}
        loaders: DataLoaders = vision.ImageDataLoaders.from_lists(".", items, labels, y_block=block, **settings)
        return loaders

    def _learner(self, dls: DataLoaders, options: dict[str, Any]) -> Learner:
        arch = models.resnet18 if self.arch is None else self.arch
        learn: Learner = vision.vision_learner(dls, arch, pretrained=self.pretrained, **options)
        return learn


class TextClassifier(ItemClassifier):
    """A classifier of texts.

    Args:
        arch: The model: the name or folder of one of Hugging Face, or an architecture of the library; `AWD_LSTM` by default.
        parts: As for `ItemClassifier`: `lr`, `max_epochs`, …; `loaders__…`, such as `loaders__tok_tfm`, and `learner__…`,
            the options of `text_classifier_learner`.

    Examples:
        >>> X, y = ["good film", "bad film"] * 8, ["pos", "neg"] * 8
        >>> sizes = {"n_layers": 1, "n_hid": 8, "emb_sz": 6}
        >>> net = TextClassifier(pretrained=False, max_epochs=1, batch_size=8, device="cpu", learner__config=sizes)
        >>> net.set_params(loaders__tok_tfm=text.BaseTokenizer).fit(X, y).predict_proba(X).shape
        (16, 2)
    """

    def _loaders(self, items: list[Any], labels: list[Any], block: Any, options: dict[str, Any]) -> DataLoaders:
        frame = pd.DataFrame({"text": items, "label": labels})
        loaders: DataLoaders = text.TextDataLoaders.from_df(
            frame, text_col="text", label_col="label", y_block=block, **options
        )
        return loaders

    def _learner(self, dls: DataLoaders, options: dict[str, Any]) -> Learner:
        arch = text.AWD_LSTM if self.arch is None else self.arch
        learn: Learner = text.text_classifier_learner(dls, arch, pretrained=self.pretrained, **options)
        return learn


def _listed(X: Any) -> list[Any]:
    """Items as a list."""
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] == 1 and X.dtype.kind in "OUS":
        X = X[:, 0]
    if isinstance(X, (str, bytes, os.PathLike)) or not isinstance(X, (Sequence, np.ndarray, pd.Series)):
        raise BadValue(
            "a classifier of items takes several at once", got=describe(X), expected="a list, an array or a column"
        )
    return list(X)

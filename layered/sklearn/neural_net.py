"""`NeuralNet` and its kinds: estimators with the parameters and defaults of skorch's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import is_classifier
from sklearn.utils.validation import check_array, check_is_fitted
from torch import Tensor, nn

from layered.data import DataLoaders
from layered.foundation import BadValue, noop, seeded, tensor
from layered.sklearn.estimators import LayeredClassifier, LayeredRegressor
from layered.sklearn.history import History
from layered.sklearn.inputs import ByName, Plain, unpacked
from layered.sklearn.losses import Criterion
from layered.sklearn.network import Callbacks, Module, Network
from layered.sklearn.saved import Saved
from layered.sklearn.skorch_habits import check_no_hooks
from layered.sklearn.train_split import PredefinedSplit, ValidSplit

FIFTH = ValidSplit(5)
Split = ValidSplit | PredefinedSplit | bool | None


class Net(Saved, Network):
    """A network with the parameters of skorch's `NeuralNet`: SGD at a constant rate, a fifth of the items held out.

    `partial_fit` trains for `max_epochs`; items are not shuffled without `iterator_train__shuffle=True`.

    Args:
        module: A class or function that makes the network, called with the parameters `module__…`, or a module, which is
            copied.
        criterion: The loss: a class or a module of torch or of the library.
        optimizer: A class of torch, a name, or a recipe of the library; its parameters are `optimizer__…`.
        lr: The learning rate.
        max_epochs: Passes over the items.
        batch_size: Items per step; -1 takes all at once.
        train_split: What is held out: a `ValidSplit`, whose parameters are `train_split__…`, or `predefined_split(dataset)`;
            None or False holds out nothing.
        callbacks: Callbacks of the library, alone or as (name, callback); their parameters are `callbacks__name__…`, and
            `callbacks__name=None` leaves one out. None and "disable" stand for none at all.
        metrics: As for `Learner`: computed on what is held out.
        predict_nonlinearity: What makes predictions of the module's output: "auto" as the loss says, a function, or None.
        warm_start: Whether `fit` goes on from the last.
        random_state: A number makes fits repeatable; None draws from torch's generator.
        verbose: 1 shows a table of the epochs.
        device: Where to train; a GPU if there is one.
        parts: Parameters of the parts: `module__…`, `criterion__…`, `optimizer__…`, `iterator_train__…`, `iterator_valid__…`,
            `callbacks__…`, `train_split__…`.
    """

    parts = (*Network.parts, "train_split")
    inputs_: Plain
    schedule = None
    early_stopping = False
    shuffled = False

    def __init__(
        self,
        module: Module,
        criterion: Callable[..., Any] | None = None,
        optimizer: str | Callable[..., Any] = torch.optim.SGD,
        lr: float = 0.01,
        max_epochs: int = 10,
        batch_size: int = 128,
        *,
        train_split: Split = FIFTH,
        callbacks: Callbacks | None = None,
        metrics: object = None,
        predict_nonlinearity: Callable[[Tensor], Tensor] | str | None = "auto",
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 1,
        device: str | torch.device | None = None,
        **parts: Any,
    ) -> None:
        self.module = module
        self.criterion = criterion
        self.optimizer = optimizer
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.train_split = train_split
        self.callbacks = callbacks
        self.metrics = metrics
        self.predict_nonlinearity = predict_nonlinearity
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.set_params(**parts)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_no_hooks(cls)

    @property
    def history(self) -> History:
        """A dict for each epoch since the last `fit`, those of `partial_fit` included: `history[:, "valid_loss"]`."""
        check_is_fitted(self, "learner_")
        return self._epochs

    @property
    def history_(self) -> History:
        """The same as `history`."""
        return self.history

    def initialize(self) -> Self:
        """Make the module, the loss and the optimizer without training; `load_params` or `partial_fit` can follow."""
        seed = self._seed()
        with seeded(seed):
            self.inputs_ = Plain(np.zeros((1, 1)))
            self.learner_ = self._learner(self._blank_loaders(1), seed)
        self._epochs, self._is_blank = History(), True
        return self

    @property
    def initialized_(self) -> bool:
        """Whether `initialize` or `fit` has made the module."""
        return self._is_fitted()

    @property
    def optimizer_(self) -> Any:
        """The optimizer, whose state `partial_fit` goes on from."""
        check_is_fitted(self, "learner_")
        if self.learner_.opt is None:
            self.learner_.create_opt()
        return self.learner_.opt

    @property
    def criterion_(self) -> Any:
        """The loss."""
        check_is_fitted(self, "learner_")
        loss_func = self.learner_.loss_func
        assert isinstance(loss_func, Criterion)  # as made in _learner
        return loss_func.loss

    def forward(self, X: Any) -> Tensor:
        """What the module returns for each item, without the nonlinearity of predictions; on the CPU, without gradients.

        Args:
            X: As for `fit`.
        """
        return self._outputs(X, noop)

    def _more(self, X: Any, y: Any, sample_weight: object, classes: object = None) -> Self:
        with self._unchanged_by_errors():
            begun = self._begin(X, y, not self._is_fitted(), classes)
            return self._train(*begun, sample_weight, None, self.max_epochs, None)

    def _begin(self, X: Any, y: Any, is_new: bool, classes: object = None) -> tuple[tuple[Tensor, ...], Tensor]:
        begun = super()._begin(X, y, is_new, classes)
        if is_new:
            self._epochs = History()
        return begun

    def _see(self, X: Any) -> None:
        super()._see(X)
        if self._is_blank:
            module, names = self.module_, self.inputs_.names
            if names is not None:
                self.learner_.model, self.learner_.dls = ByName(module, names), self._blank_loaders(len(names))

    def _blank_loaders(self, n_inputs: int) -> DataLoaders:
        inputs = (torch.zeros(2, 1),) * n_inputs
        dls = DataLoaders.from_arrays(inputs, torch.zeros(2), splits=([0], [1]), bs=1, device=self.device)
        return dls.new_empty()

    def _outputs(self, X: Any, act: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        if self._is_blank:
            self._see(unpacked(X)[0])
        return super()._outputs(X, act)

    def _seed(self) -> int:
        return int(torch.randint(2**31, ())) if self.random_state is None else super()._seed()

    def _train(self, inputs: tuple[Tensor, ...], y: Tensor, sample_weight: Any, *args: Any) -> Self:
        if isinstance(self.train_split, PredefinedSplit):
            X, targets = unpacked(self.train_split.dataset)
            held_out = self.inputs_.tensors(X)
            self._held_out = len(held_out[0])
            inputs = tuple(torch.cat(pair) for pair in zip(inputs, held_out, strict=True))
            y = torch.cat([y, self._targets(np.asarray(targets), False, None)])
            if sample_weight is not None:
                sample_weight = np.concatenate([sample_weight, np.ones(self._held_out)])
        return super()._train(inputs, y, sample_weight, *args)

    def _split(self, y: np.ndarray[Any, Any], groups: object, seed: int) -> tuple[list[int], list[int]]:
        rows = list(range(len(y)))
        if isinstance(self.train_split, PredefinedSplit):
            return rows[: -self._held_out], rows[-self._held_out :]
        if not self.train_split:
            return rows, []
        if not isinstance(self.train_split, ValidSplit):
            raise BadValue(
                "train_split is neither a ValidSplit, nor predefined_split(dataset), nor None",
                got=repr(self.train_split),
                fix="train_split=ValidSplit(cv), with a number, a share, or a cross-validator of scikit-learn",
            )
        split = ValidSplit(**{**vars(self.train_split), **self.routed("train_split")})
        return split.positions(y, groups, is_classifier=is_classifier(self))

    def _run(self, epochs: int, schedule: str | None) -> None:
        super()._run(epochs, schedule)
        for row in self.learner_.recorder.history:
            self._epochs.append({**row, "epoch": len(self._epochs) + 1})

    def _activation(self, criterion: Criterion) -> Callable[[Tensor], Tensor]:
        asked = self.predict_nonlinearity
        if asked is None:
            return noop
        if asked == "auto":
            return criterion.activation
        if not callable(asked):
            raise BadValue(
                "predict_nonlinearity is unknown",
                got=repr(asked),
                expected="'auto', a function of the module's output, or None",
                fix="predict_nonlinearity=nn.Softmax(dim=-1)",
            )
        return asked


class NeuralNet(Net):
    """A network for targets of any kind, which the loss gets as they are; predictions are what the module says.

    Its parameters are those of `Net`; `criterion` has to be given.

    Examples:
        >>> X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
        >>> net = NeuralNet(nn.Linear(3, 3), nn.MSELoss, lr=0.1, verbose=0, random_state=0).fit(X, X)
        >>> net.predict(X).shape, len(net.history[:, "valid_loss"])
        ((40, 3), 10)
    """

    def predict_proba(self, X: Any) -> np.ndarray[Any, Any]:
        """What the module makes of each item, as the loss says that outputs are read.

        Args:
            X: As for `fit`.
        """
        found: np.ndarray[Any, Any] = self._outputs(X).numpy()
        return found

    def predict(self, X: Any) -> np.ndarray[Any, Any]:
        """The same as `predict_proba`.

        Args:
            X: As for `fit`.
        """
        return self.predict_proba(X)

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """`max_epochs` more over these items, with the state of the optimizer kept.

        Args:
            X: As for `fit`.
            y: As for `fit`.
        """
        return self._more(X, y, None)

    def _targets(self, y: Any, is_new: bool, classes: object) -> Tensor:
        return tensor(y)

    def _usual_loss(self) -> type[nn.Module]:
        raise BadValue("a NeuralNet needs a loss", fix="NeuralNet(module, criterion=nn.MSELoss)")


class NeuralNetClassifier(Net, LayeredClassifier):
    """A classifier with the parameters and defaults of skorch's; see `Net`.

    The module returns probabilities for `nn.NLLLoss`, of which the logarithm is taken, or scores for `nn.CrossEntropyLoss`.
    The held out fifth has the classes in the same shares; `valid_acc` is the accuracy on it.

    Args:
        module: As for `Net`.
        args: As for `Net`: the loss, the optimizer, ….
        classes: All classes there are, sorted, where a fit may not see each of them; by default those of its targets.
        params: As for `Net`.

    Examples:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> module = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=-1))
        >>> NeuralNetClassifier(module, lr=0.1, verbose=0, random_state=0).fit(X, y).score(X, y) > 0.6
        True
    """

    def __init__(self, module: Module, *args: Any, classes: Sequence[Any] | None = None, **params: Any) -> None:
        self.classes = classes
        super().__init__(module, *args, **params)

    @classmethod
    def _get_param_names(cls) -> list[str]:
        return sorted([*Net._get_param_names(), "classes"])

    def predict(self, X: Any) -> np.ndarray[Any, Any]:
        """The most probable class of each item, [item]; its number where parameters were loaded and no class was seen.

        Args:
            X: As for `fit`.
        """
        return super().predict(X) if "classes_" in vars(self) else self.predict_proba(X).argmax(1)

    def _targets(self, y: Any, is_new: bool, classes: object) -> Tensor:
        given = None if self.classes is None or not len(self.classes) else self.classes
        if given is not None and not np.array_equal(np.unique(np.asarray(given)), np.asarray(given)):
            raise BadValue(
                "classes= are not in sorted order, in which outputs and the columns of predict_proba are",
                got=list(given),
                expected=np.unique(np.asarray(given)).tolist(),
            )
        return super()._targets(y, is_new, given if classes is None else classes)

    def _measured(self, criterion: Criterion) -> object:
        return {"valid_acc": "accuracy"} if self.metrics is None else self.metrics

    def _usual_loss(self) -> type[nn.Module]:
        return nn.NLLLoss


@dataclass(frozen=True)
class AccuracyAbove:
    """The share of items that are on the side of a threshold that their class is on.

    Args:
        threshold: The second class is above it.
        activation: Makes probabilities of outputs.
    """

    threshold: float
    activation: Callable[[Tensor], Tensor]

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        is_second = self.activation(output).reshape(target.shape) > self.threshold
        return (is_second == target.bool()).float().mean()


class NeuralNetBinaryClassifier(NeuralNetClassifier):
    """A classifier of two classes, whose module returns one score for each item, the larger the more it is the second class.

    The loss is `nn.BCEWithLogitsLoss` by default.

    Args:
        module: As for `Net`.
        args: As for `Net`: the loss, the optimizer, ….
        threshold: `predict` gives the second class where its probability is above this, which `valid_acc` counts by too.
        params: As for `NeuralNetClassifier`.

    Examples:
        >>> X = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
        >>> net = NeuralNetBinaryClassifier(nn.Linear(2, 1), lr=0.5, verbose=0, random_state=0).fit(X, X[:, 0] > 0)
        >>> net.predict_proba(X).shape, net.score(X, X[:, 0] > 0) > 0.9
        ((60, 2), True)
    """

    def __init__(self, module: Module, *args: Any, threshold: float = 0.5, **params: Any) -> None:
        self.threshold = threshold
        super().__init__(module, *args, **params)

    @classmethod
    def _get_param_names(cls) -> list[str]:
        return sorted([*super()._get_param_names(), "threshold"])

    def predict(self, X: Any) -> np.ndarray[Any, Any]:
        """The class of each item, [item]: the second where its probability is above the threshold.

        Args:
            X: As for `fit`.
        """
        is_second = self.predict_proba(X)[:, -1] > self._checked_threshold()
        found: np.ndarray[Any, Any] = np.asarray(vars(self).get("classes_", (0, 1)))[is_second.astype(int)]
        return found

    def _measured(self, criterion: Criterion) -> object:
        if self.metrics is not None:
            return self.metrics
        return {"valid_acc": AccuracyAbove(self._checked_threshold(), self._activation(criterion))}

    def _checked_threshold(self) -> float:
        if not isinstance(self.threshold, (int, float)) or not 0 <= self.threshold <= 1:
            raise BadValue("threshold is not a probability", got=repr(self.threshold), expected="a number from 0 to 1")
        return self.threshold

    def _targets(self, y: Any, is_new: bool, classes: object) -> Tensor:
        targets = super()._targets(y, is_new, classes)
        if len(self.classes_) != 2:
            raise BadValue(
                "a binary classifier tells two classes apart",
                got=self.classes_.tolist(),
                fix="NeuralNetClassifier(...)",
            )
        return targets

    def _usual_loss(self) -> type[nn.Module]:
        return nn.BCEWithLogitsLoss


class NeuralNetRegressor(Net, LayeredRegressor):
    """A regressor with the parameters and defaults of skorch's; see `Net`. Predictions have the shape of the targets.

    Examples:
        >>> X = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
        >>> net = NeuralNetRegressor(nn.Linear(2, 1), lr=0.1, verbose=0, random_state=0).fit(X, X[:, :1])
        >>> net.predict(X).shape, net.score(X, X[:, :1]) > 0.9
        ((60, 1), True)
    """

    def _targets(self, y: Any, is_new: bool, classes: object) -> Tensor:
        y = check_array(y, ensure_2d=False, allow_nd=True, dtype=np.float64, input_name="y")
        if is_new:
            self.target_shape_, self.target_mean_, self.target_scale_ = y.shape[1:], 0.0, np.ones(())
        return torch.from_numpy(y.astype(np.float32))

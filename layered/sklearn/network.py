"""What a classifier and a regressor share: parameters, inputs, fitting, outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils import check_random_state
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)
from torch import Tensor, nn

from layered.callback import EarlyStoppingCallback
from layered.data import DataLoaders
from layered.foundation import BadValue, seeded
from layered.loop import Callback
from layered.optim import optimizer_named, pytorch_hp_map
from layered.sklearn.inputs import ByName, OfTable, Plain, unpacked
from layered.sklearn.losses import Criterion
from layered.sklearn.parts import changed, made, pickled_state
from layered.sklearn.routing import Routed
from layered.sklearn.unweighted import Scale, unweighted
from layered.training import Learner

OF_LEARNER = frozenset({"module", "criterion", "optimizer", "callbacks", "metrics"})
Named = tuple[str, Callback | type[Callback]]
Callbacks = Sequence[Callback | type[Callback] | Named] | Mapping[str, Callback | type[Callback]] | Literal["disable"]
Module = type[nn.Module] | Callable[..., nn.Module] | nn.Module


class Network(Routed):
    """An estimator whose model is a network.

    Args:
        module: A class or function that makes the network, called with the parameters `module__…`, or a module, which is
            copied. By default an MLP for tables of any columns: see `TabularModel`, whose options are `module__layers`,
            `module__ps`, ….
        criterion: The loss: a class or a module of torch or of the library.
        optimizer: A name, a recipe of the library, or a class of torch; its parameters are `optimizer__…`.
        lr: The (largest) learning rate.
        max_epochs: Passes over the items.
        batch_size: Items per step; by default a sixteenth of them, from 8 to 256.
        schedule: "one_cycle" lets the rate rise and fall; None keeps it, as `partial_fit` does.
        callbacks: Callbacks of the library, alone or as (name, callback); their parameters are `callbacks__name__…`, and
            `callbacks__name=None` leaves one out.
        metrics: As for `Learner`: computed on what is held out, where each item counts once.
        early_stopping: Hold out items of `fit`, and stop once the loss on these has not improved for some epochs.
        validation_fraction: The share that is held out.
        n_iter_no_change: How many epochs.
        warm_start: Whether `fit` goes on from the last.
        random_state: A number makes fits repeatable; None draws anew.
        device: Where to train; a GPU if there is one.
        verbose: 1 shows a table of the epochs.
        parts: Parameters of the parts: `module__…`, `criterion__…`, `optimizer__…`, `iterator_train__…`, `callbacks__…`.
    """

    learner_: Learner
    shuffled = True
    _is_blank = False  # there is a learner that has seen no items
    _renewed: frozenset[str] = frozenset()  # the parts of the learner that were changed since it was made
    parts: tuple[str, ...] = ("module", "criterion", "optimizer", "iterator_train", "iterator_valid", "callbacks")

    def __init__(
        self,
        module: Module | None = None,
        *,
        criterion: Callable[..., Any] | None = None,
        optimizer: str | Callable[..., Any] = "adam",
        lr: float = 1e-2,
        max_epochs: int = 20,
        batch_size: int | None = None,
        schedule: str | None = "one_cycle",
        callbacks: Callbacks | None = None,
        metrics: object = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        device: str | torch.device | None = None,
        verbose: int = 0,
        **parts: Any,
    ) -> None:
        self.module = module
        self.criterion = criterion
        self.optimizer = optimizer
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.schedule = schedule
        self.callbacks = callbacks
        self.metrics = metrics
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.verbose = verbose
        self.set_params(**parts)

    def fit(self, X: Any, y: Any = None, sample_weight: object = None, groups: object = None) -> Self:
        """Train from the beginning, or from where the last fit ended if `warm_start`.

        Args:
            X: A row for each item: an array [item, …] or tensor, a frame of pandas or polars, a sparse matrix, or a dict of
                such, whose parts the module gets by name. Or a data set of torch, which is read once.
            y: The target of each item; for regression [item] or [item, target]. None takes those of the data set.
            sample_weight: How much each item counts, [item]; all the same by default.
            groups: Items that are alike, [item]: none of a group is held out where others of it are trained on.

        Raises:
            BadValue: Rows, targets or weights do not fit together.
        """
        is_new = not (self.warm_start and self._is_fitted())
        with self._unchanged_by_errors():
            return self._train(*self._begin(X, y, is_new), sample_weight, groups, self.max_epochs, self.schedule)

    def set_params(self, **params: Any) -> Self:
        """Change parameters from the next training on.

        Where that goes on from the last (`partial_fit`, `warm_start`), a changed module is made anew, and with any other part the
        weights of the module are kept.

        Args:
            params: By name: `lr=0.1`, `module__num_units=20`.

        Raises:
            BadValue: A name is not that of a parameter.
        """
        super().set_params(**params)
        if self._is_fitted():
            self._renewed |= {name.partition("__")[0] for name in params} & OF_LEARNER
        return self

    @property
    def module_(self) -> nn.Module:
        """The trained module, a plain one of torch."""
        check_is_fitted(self, "learner_")
        model: nn.Module = self.learner_.model
        return model.module if isinstance(model, ByName) else model

    @property
    def history_(self) -> list[dict[str, Any]]:
        """The losses and metrics of each epoch of the last fit, by name."""
        check_is_fitted(self, "learner_")
        history: list[dict[str, Any]] = self.learner_.recorder.history
        return history

    # -- fitting

    def _is_fitted(self) -> bool:
        return "learner_" in vars(self)

    def _more(self, X: Any, y: Any, sample_weight: object, classes: object = None) -> Self:
        """What `partial_fit` does."""
        with self._unchanged_by_errors():
            return self._train(*self._begin(X, y, not self._is_fitted(), classes), sample_weight, None, 1, None)

    @contextmanager
    def _unchanged_by_errors(self) -> Iterator[None]:
        """A fit that fails leaves the estimator as it was."""
        before = dict(vars(self))
        try:
            yield
        except Exception:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _begin(self, X: Any, y: Any, is_new: bool, classes: object = None) -> tuple[tuple[Tensor, ...], Tensor]:
        """Inputs and targets as tensors; a first fit learns their form."""
        if self.schedule not in (None, "one_cycle"):
            raise BadValue("the schedule is unknown", got=repr(self.schedule), expected="'one_cycle' or None")
        X, y = unpacked(X, y)
        X = self._checked(X, reset=is_new)
        if y is None:
            raise BadValue(f"{type(self).__name__} requires y to be passed, but the target y is None")
        is_first = is_new or self._is_blank
        targets = self._targets(y, is_first, classes)
        if is_first:
            self._see(X)
            self._is_blank = False
        if is_new:
            self.__dict__.pop("learner_", None)
        return self.inputs_.tensors(X), targets

    def _see(self, X: Any) -> None:
        """Learn the form of the inputs."""
        self.inputs_ = OfTable(X) if self.module is None else Plain(X)

    def _checked(self, X: Any, reset: bool) -> Any:
        """X as scikit-learn checks it; frames may have any columns, and a module of the user takes arrays of any axes."""
        if isinstance(X, (Mapping, Tensor)):
            return X
        if hasattr(X, "columns"):
            _check_feature_names(self, X, reset=reset)
            _check_n_features(self, X, reset=reset)
            return X
        is_table = self.module is None
        checks = {"allow_nd": not is_table, "ensure_all_finite": "allow-nan" if is_table else True}
        return validate_data(self, X, reset=reset, accept_sparse="csr", dtype="numeric", **checks)

    def _train(
        self,
        inputs: tuple[Tensor, ...],
        y: Tensor,
        sample_weight: object,
        groups: object,
        epochs: int,
        schedule: str | None,
    ) -> Self:
        if any(len(t) != len(y) for t in inputs):
            raise BadValue(
                "X and y differ in length",
                got=f"{len(inputs[0])} rows and {len(y)} targets",
                expected="one target per row",
            )
        targets: tuple[Tensor, ...] = (y,)
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, y.numpy(), ensure_non_negative=True)
            targets = (y, torch.as_tensor(weights, dtype=torch.float32))
        seed = self._seed()
        with seeded(seed):
            dls = self._loaders(inputs, targets, groups, seed)
            if self._is_fitted() and not self._renewed:
                self.learner_.dls = dls
            else:
                last = self.learner_.model if self._is_fitted() and "module" not in self._renewed else None
                self.learner_ = self._learner(dls, seed)
                if last is not None:
                    self.learner_.model.load_state_dict(last.state_dict())
            self._run(epochs, schedule)
        return self

    def _seed(self) -> int:
        """What a fit draws from."""
        return int(check_random_state(self.random_state).randint(2**31))

    def _loaders(
        self, inputs: tuple[Tensor, ...], targets: tuple[Tensor, ...], groups: object, seed: int
    ) -> DataLoaders:
        options = self.routed("iterator_train")
        train, valid = self._split(targets[0].numpy(), groups, seed)
        bs = options.pop("batch_size", None) or self.batch_size or min(256, max(8, len(train) // 16))
        bs = len(train) if bs == -1 else bs
        is_single = len(train) > bs and len(train) % bs == 1  # batch norm cannot learn from a single row
        options = {"shuffle": self.shuffled, "drop_last": is_single, **options}
        return DataLoaders.from_arrays(
            inputs, targets, splits=(train, valid), bs=min(bs, len(train)), seed=seed, device=self.device, **options
        )

    def _split(self, y: np.ndarray[Any, Any], groups: object, seed: int) -> tuple[list[int], list[int]]:
        """The positions to train on, and those held out to stop early."""
        rows = np.arange(len(y))
        if not self.early_stopping:
            return rows.tolist(), []
        if groups is not None:
            splitter: Any = GroupShuffleSplit
        else:
            splitter = StratifiedShuffleSplit if y.dtype.kind in "iu" and y.ndim == 1 else ShuffleSplit
        split = splitter(1, test_size=self.validation_fraction, random_state=seed).split(rows, y, groups)
        train, valid = next(split)
        return train.tolist(), valid.tolist()

    def _learner(self, dls: DataLoaders, seed: int) -> Learner:
        self._renewed = frozenset()
        optimizer = optimizer_named(self.optimizer) if isinstance(self.optimizer, str) else self.optimizer
        options = self.routed("optimizer")
        if not isinstance(optimizer, type):  # a recipe of the library: torch's names are understood
            options = {pytorch_hp_map.get(name, name): value for name, value in options.items()}
        moms = None if options.keys() & {"mom", "momentum", "betas"} else (0.95, 0.85, 0.95)
        usual = self._usual_loss() if self.criterion is None else self.criterion
        criterion = Criterion(made(usual, "criterion", self.routed("criterion")))
        return Learner(
            dls,
            self._module(),
            criterion,
            partial(optimizer, **options),
            lr=self.lr,
            moms=moms,
            metrics=unweighted(self._measured(criterion), self._scale()),
            cbs=self._callbacks(),
            seed=seed,
        )

    def _measured(self, criterion: Criterion) -> object:
        """The metrics, for a loss."""
        return self.metrics

    def _scale(self) -> Scale | None:
        """What targets are scaled by."""
        return None

    def _module(self) -> nn.Module:
        options = self.routed("module")
        if isinstance(self.inputs_, OfTable):
            return self.inputs_.module(self._n_outputs(), **options)
        module = made(self.module, "module", options)
        return ByName(module, self.inputs_.names) if self.inputs_.names else module

    def _callbacks(self) -> list[Any]:
        """Those of the user, with their routed parameters, and the one that stops early."""
        given = [] if self.callbacks is None or self.callbacks == "disable" else self.callbacks
        named: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {}
        for o in [] if named else given:
            kind = o if isinstance(o, type) else type(o)
            name, callback = o if isinstance(o, tuple) else (kind.__name__, o)
            named[name] = callback
        changes: dict[str, dict[str, Any]] = {name: {} for name in named}
        for key, value in self.routed("callbacks").items():
            name, _, parameter = key.partition("__")
            if name not in named:
                raise BadValue(f"there is no callback '{name}'", expected=", ".join(named) or "callbacks=[...] first")
            if parameter:
                changes[name][parameter] = value
            else:
                named[name] = value
        own = [EarlyStoppingCallback(patience=self.n_iter_no_change)] if self.early_stopping else []
        return [*(changed(o, changes[name]) for name, o in named.items() if o is not None), *own]

    def _run(self, epochs: int, schedule: str | None) -> None:
        learn = self.learner_
        with ExitStack() as quiet:
            if not self.verbose:
                quiet.enter_context(learn.no_bar())
                quiet.enter_context(learn.no_logging())
            if schedule is not None:
                learn.fit_one_cycle(epochs, self.lr)
            else:
                learn.fit(epochs, self.lr)

    def _targets(self, y: Any, is_new: bool, classes: object) -> Tensor:
        """The targets as the loss takes them; a first fit learns their form, or takes all classes from the caller."""
        raise NotImplementedError

    def _n_outputs(self) -> int:
        """How many numbers the default module makes of a row."""
        raise NotImplementedError

    def _usual_loss(self) -> type[nn.Module]:
        """The loss where none is given."""
        raise NotImplementedError

    # -- predicting

    def _outputs(self, X: Any, act: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """What the module makes of each row, as probabilities or numbers, unless `act` says otherwise."""
        check_is_fitted(self, "learner_")
        inputs = self.inputs_.tensors(self._checked(unpacked(X)[0], reset=False))
        learn, options = self.learner_, self.routed("iterator_valid")
        loader = learn.dls.test_dl(inputs, bs=options.pop("batch_size", 256), **options)
        assert isinstance(learn.loss_func, Criterion)  # as made above
        with learn.no_bar(), learn.no_logging():
            preds: Tensor = learn.get_preds(dl=loader, act=act or self._activation(learn.loss_func))[0]
        return preds

    def _activation(self, criterion: Criterion) -> Callable[[Tensor], Tensor]:
        """What predictions are made of an output by."""
        return criterion.activation

    def __getstate__(self) -> dict[str, Any]:
        """Without the training data."""
        return pickled_state(super().__getstate__())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = self.module is None
        tags.non_deterministic = False
        return tags

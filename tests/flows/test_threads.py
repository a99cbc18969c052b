"""Threads that predict and validate, beside a fit or one another: each is right or refused, and the fit ends like its twin.

`LAYERED_SEED=… LAYERED_SOAK=1 pytest 'tests/flows/test_threads.py::…[12]'` repeats number 12 of a seed, as far as threads repeat.
"""

import copy
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from counts import SEED, chance, soak
from recipes import small_net

from layered.files import read_archive
from layered.foundation import CannotTrain
from layered.tabular.all import Categorify, FillMissing, Normalize, TabularDataLoaders, tabular_learner
from layered.vision.all import (
    CSVLogger,
    DataLoaders,
    EMACallback,
    GradientAccumulation,
    ImageDataLoaders,
    Learner,
    Resize,
    accuracy,
    aug_transforms,
    load_learner,
    nn,
    noop,
    set_seed,
    vision_learner,
)


def of_pictures(pictures: Path, folder: Path) -> Learner:
    dls = ImageDataLoaders.from_folder(
        pictures, valid_pct=0.25, seed=0, item_tfms=Resize(12), batch_tfms=aug_transforms(size=10), bs=4, num_workers=0,
        device="cpu",
    )  # fmt: skip
    return vision_learner(dls, small_net, pretrained=False, metrics=accuracy, path=folder)


def of_a_table(pictures: Path, folder: Path) -> Learner:
    rng = np.random.default_rng(0)
    table = {"a": rng.normal(size=48), "b": rng.choice(["u", "v", None], 48), "c": rng.normal(size=48)}
    table["c"][::7] = np.nan
    frame = pd.DataFrame(table | {"y": rng.choice(["p", "q", "r"], 48)})
    dls = TabularDataLoaders.from_df(
        frame, procs=[Categorify, FillMissing, Normalize], y_names="y", valid_idx=range(36, 48), bs=4
    )
    return tabular_learner(dls, [8], config={"ps": 0.3}, metrics=accuracy, path=folder)


def of_rows(pictures: Path, folder: Path) -> Learner:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    rows = [(one, int(one.sum() > 0)) for one in x]
    net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.4), nn.Linear(8, 2))
    dls = DataLoaders.from_dsets(rows[:28], rows[28:], bs=4, device="cpu")
    return Learner(dls, net, nn.CrossEntropyLoss(), metrics=accuracy, path=folder)


MAKES = [of_pictures, of_a_table, of_rows]
CALLBACKS: list[Callable[[], Any]] = [
    lambda: GradientAccumulation(6), CSVLogger, lambda: EMACallback(0.9, validate=True),
]  # fmt: skip


def made(make: Callable[..., Learner], pictures: Path, folder: Path) -> Learner:
    set_seed(3)
    learn = make(pictures, folder)
    learn.logger = noop
    for dl in learn.dls:
        dl.seed = 1  # or looks at the data would depend on the seed that a fit beside them sets
    with learn.no_bar():
        learn.fit(1, 0.01)
    return learn


def an_item(learn: Learner, i: int) -> Any:
    items = learn.dls.valid_ds.items
    return items.iloc[i] if isinstance(items, pd.DataFrame) else items[i]


def verbs(make: Callable[..., Learner]) -> dict[str, Callable[[Learner], Any]]:
    """What threads do with a learner; each gives numbers."""
    own: dict[str, Callable[[Learner], Any]] = {
        "validate": lambda learn: learn.validate(),
        "get_preds": lambda learn: [x.tolist() for x in learn.get_preds(with_loss=True)],
        "get_preds of training": lambda learn: learn.get_preds(ds_idx=0)[0].tolist(),
        "stream_preds": lambda learn: [x.tolist() for x, _ in learn.stream_preds()],
    }
    if make is not of_rows:
        own |= {f"predict {i}": partial(_predicted, i) for i in range(5)}
        own["get_preds of items"] = lambda learn: learn.get_preds(
            dl=learn.dls.test_dl(
                [an_item(learn, i) for i in (3, 1)] if make is of_pictures else learn.dls.valid_ds.items[:2]
            )
        )[0].tolist()
    if make is of_pictures:
        own["save"] = lambda learn: _saved(learn)
        own["tta"] = lambda learn: learn.tta(n=2)[0].tolist()
        own["export"] = lambda learn: _exported(learn)
    return own


def _predicted(i: int, learn: Learner) -> Any:
    return [x.tolist() for x in learn.predict(an_item(learn, i))[1:]]


def _exported(learn: Learner) -> Any:
    file = learn.export(f"{threading.get_ident()}")
    return [x.tolist() for x in load_learner(file).model.state_dict().values()]


def _saved(learn: Learner) -> Any:
    return [x.tolist() for x in read_archive(learn.save(f"{threading.get_ident()}")).tensors.values()]


def weights(learn: Learner) -> Any:
    return [x.tolist() for x in learn.model.state_dict().values()]


class Asking:
    """Threads that ask learners for numbers until they are told to stop; a wrong answer is noted."""

    def __init__(
        self, asked: list[tuple[str, Callable[[], Any], list[Any]]], count: int, at_least: int, dice: Random
    ) -> None:
        self.wrong: list[str] = []
        self.refused = self.right = 0
        self.over = threading.Event()
        plans = [dice.choices(asked, k=400) for _ in range(count)]
        self.threads = [threading.Thread(target=self.ask, args=(plan, at_least)) for plan in plans]

    def ask(self, plan: list[tuple[str, Callable[[], Any], list[Any]]], at_least: int) -> None:
        for done, (name, verb, right) in enumerate(plan):
            if self.over.is_set() and done >= at_least:
                return
            try:
                found = verb()
            except CannotTrain:
                self.refused += 1
            except Exception as error:
                self.wrong.append(f"{name}: {error!r:.300}")
            else:
                self.right += found in right
                if found not in right:
                    self.wrong.append(f"{name}: {str(found)[:200]} instead of {str(right)[:200]}")

    def __enter__(self) -> "Asking":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in self.threads)


@pytest.fixture(autouse=True)
def restless():
    """Threads take turns a hundred times as often as usual."""
    usual, threads = sys.getswitchinterval(), torch.get_num_threads()
    sys.setswitchinterval(5e-5)
    torch.set_num_threads(1)
    yield
    sys.setswitchinterval(usual)
    torch.set_num_threads(threads)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(soak(3, 200)))
def test_threads_that_ask_one_another_s_learner_get_what_one_thread_gets(pictures, tmp_path, number):
    dice = chance("threads", number)
    make = MAKES[number % len(MAKES)]
    learn = made(make, pictures, tmp_path)
    before = weights(learn)
    asked = [(name, partial(verb, learn), [verb(learn)]) for name, verb in verbs(make).items()]
    with Asking(asked, dice.randint(2, 6), soak(4, 12), dice) as asking:
        pass
    assert not asking.wrong, f"seed {SEED}: {asking.wrong[:3]}"
    assert not asking.refused
    assert weights(learn) == before


@pytest.mark.soak
@pytest.mark.parametrize("number", range(soak(6, 300)))
def test_a_fit_beside_threads_that_ask_ends_like_its_twin(pictures, tmp_path, number):
    dice = chance("beside a fit", number)
    make, epochs = MAKES[number % len(MAKES)], dice.randint(1, 3)
    chosen = dice.sample(CALLBACKS, dice.randint(0, 2))

    def fit(learn: Learner) -> Any:
        set_seed(5)
        with learn.no_bar():
            learn.fit(epochs, 0.01, cbs=[cb() for cb in chosen])
        return [weights(learn), learn.recorder.losses, learn.recorder.values, torch.rand(2).tolist()]

    twin, learn = made(make, pictures, tmp_path / "twin"), made(make, pictures, tmp_path / "run")
    other = copy.deepcopy(learn)
    asked = [
        (f"{name} of a copy", partial(verb, other), [verb(other)])
        for name, verb in verbs(make).items()
        if name != "export"  # which borrows the generators of the process
    ]
    early = {name: verb(twin) for name, verb in verbs(make).items()}
    for name, verb in verbs(make).items():
        assert verb(learn) == early[name]  # counts the looks alike
    wanted = fit(twin)
    asked += [(name, partial(verb, learn), [early[name], verb(twin)]) for name, verb in verbs(make).items()]
    if dice.random() < 0.5:
        asked = [one for one in asked if ("of a copy" in one[0]) == (dice.random() < 0.5)] or asked
    with Asking(asked, dice.randint(1, 4), 0, dice) as asking:
        found = fit(learn)
    told = f"seed {SEED}: {chosen}, {asking.right} right, {asking.refused} refused"
    assert not asking.wrong, f"{told}: {asking.wrong[:3]}"
    assert found == wanted, told
    assert weights(learn) == wanted[0], told

"""Every operation on a file fails once: the error is ours and names the file, nothing is left half, the next try works.

`LAYERED_SEED=… LAYERED_SOAK=1 pytest 'tests/files/test_failing_files.py::…[save]'` repeats what was tried with a seed.
"""

import errno
import shutil
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from counts import SEED, chance, soak
from failing_files import CODES, SHORT, Failing
from PIL import Image

from layered.files import load_pickle, save_pickle
from layered.foundation import LayeredError
from layered.loop import Callback
from layered.tabular.all import Categorify, FillMissing, TabularDataLoaders
from layered.vision.all import (
    Checkpoint,
    CSVLogger,
    DataLoaders,
    ImageDataLoaders,
    JSONLogger,
    Learner,
    RunRecord,
    SaveModelCallback,
    URLs,
    accuracy,
    load_learner,
    nn,
    noop,
    read_record,
    untar_data,
)

X = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
TRIES = soak(4, 2000)  # for each verb


def learner(folder, cbs=()):
    torch.manual_seed(0)
    rows = [(x, int(x.sum() > 0)) for x in X]
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 2))
    learn = Learner(
        DataLoaders.from_dsets(rows[:16], rows[16:], bs=4, seed=1), net, nn.CrossEntropyLoss(), lr=0.1, metrics=accuracy,
        seed=1, path=folder, cbs=list(cbs),
    )  # fmt: skip
    learn.logger = noop
    return learn


def logged(folder):
    return [
        CSVLogger(), JSONLogger(append=True), RunRecord(folder / "record"),
        SaveModelCallback("train_loss", comp="max", keep=2, with_opt=True),
    ]  # fmt: skip


def weights(learn):
    return [p.tolist() for p in learn.model.state_dict().values()]


def left_by_fit(folder, learn):
    rows = [
        {k: v for k, v in row.items() if k != "time"}
        for row in read_record(folder / "record").epochs.to_dict("records")
    ]
    rows = [{k: v for k, v in row.items() if k not in ("attempt", "seconds")} for row in rows]
    logs = [(folder / name).read_text() for name in ("history.csv", "history.jsonl")]
    return weights(learn), logs, rows, sorted(file.name for file in (folder / "models").iterdir())


class Verb:
    """What is tried: `before` makes what it needs, `make` its learner, `do` it; `left` is what it leaves."""

    def before(self, folder):
        pass

    def make(self, folder):
        return learner(folder)

    def do(self, folder, learn):
        raise NotImplementedError

    def left(self, folder, learn, res):
        return res


class Fit(Verb):
    background = True

    def make(self, folder):
        return learner(folder, logged(folder))

    def do(self, folder, learn):
        saved = Checkpoint(folder / "run", "2 batches", background=self.background)
        learn.fit_one_cycle(2, 0.1, checkpoint=saved, resume="auto")

    def left(self, folder, learn, res):
        return left_by_fit(folder, learn)


class FitAtOnce(Fit):
    background = False


class Boom(Exception):
    """Somebody else's failure."""


class Stop(Callback):
    order = 2000

    def __init__(self, at):
        self.at = at

    def before_step(self):
        if self.learn.train_iter == self.at:
            raise Boom

    def __repr__(self):
        return "Stop"


class Resume(Fit):
    def before(self, folder):
        with pytest.raises(Boom):
            self.do(folder, learner(folder, [*logged(folder), Stop(6)]))

    def make(self, folder):
        return learner(folder, [*logged(folder), Stop(-1)])


class Save(Verb):
    def before(self, folder):
        self.do(folder, learner(folder))

    def do(self, folder, learn):
        learn.save("w")

    def left(self, folder, learn, res):
        other = learner(folder)
        other.model[0].weight.data.zero_()
        return weights(other.load("w"))


class Load(Verb):
    def before(self, folder):
        learner(folder).save("w")

    def make(self, folder):
        learn = learner(folder)
        for p in learn.model.parameters():
            p.data.zero_()
        return learn

    def do(self, folder, learn):
        learn.load("w")

    def left(self, folder, learn, res):
        return weights(learn)


def pictures(folder):
    rng = np.random.default_rng(0)
    for i in range(6):
        (folder / "pictures" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(folder / "pictures" / "ab"[i % 2] / f"{i}.png")


def picture_learner(folder):
    torch.manual_seed(0)
    dls = ImageDataLoaders.from_folder(folder / "pictures", valid_pct=0.34, seed=1, bs=2, num_workers=0)
    return Learner(dls, nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), path=folder)


class Export(Verb):
    def before(self, folder):
        pictures(folder)
        learner(folder).export("e.layered")

    def make(self, folder):
        return picture_learner(folder)

    def do(self, folder, learn):
        learn.export("e.layered")

    def left(self, folder, learn, res):
        return load_learner(folder / "e.layered").predict(folder / "pictures/a/0.png")[2].tolist()


class LoadLearner(Export):
    def before(self, folder):
        pictures(folder)
        picture_learner(folder).export("e.layered")

    def make(self, folder):
        return None

    def do(self, folder, learn):
        return load_learner(folder / "e.layered").predict(folder / "pictures/a/0.png")[2].tolist()

    def left(self, folder, learn, res):
        return res


class Pictures(Verb):
    def before(self, folder):
        pictures(folder)

    def make(self, folder):
        return None

    def do(self, folder, learn):
        return [x.sum().item() for x, _ in picture_learner(folder).dls.valid]


class Untar(Verb):
    def do(self, folder, learn):
        return untar_data(URLs.HUMAN_NUMBERS)

    def left(self, folder, learn, res):
        return sorted((str(file.relative_to(res)), file.stat().st_size) for file in res.rglob("*"))


class Predictions(Verb):
    def do(self, folder, learn):
        res = learn.get_preds(save_preds=folder / "preds", save_targs=folder / "targets")
        return [part.tolist() for part in res]


class Pickle(Verb):
    def before(self, folder):
        save_pickle(folder / "x.pkl", [1])

    def do(self, folder, learn):
        save_pickle(folder / "x.pkl", [1, 2])
        return load_pickle(folder / "x.pkl")


class Table(Verb):
    def before(self, folder):
        pd.DataFrame({"a": range(20), "b": ["x", "y"] * 10, "y": [0.5] * 20}).to_csv(folder / "t.csv", index=False)

    def make(self, folder):
        return None

    def do(self, folder, learn):
        procs = [Categorify, FillMissing]
        dls = TabularDataLoaders.from_csv(folder / "t.csv", procs=procs, y_names="y", valid_pct=0.2, seed=1, bs=4)
        return [part.tolist() for part in dls.valid.one_batch()]


VERBS = {kind.__name__.lower(): kind() for kind in (
    Fit, FitAtOnce, Resume, Save, Load, Export, LoadLearner, Pictures, Untar, Predictions, Pickle, Table,
)}  # fmt: skip


def state_of(learn):
    """All that a failed verb must put back."""
    if learn is None:
        return None
    return {
        "gradients": torch.is_grad_enabled(),
        "callbacks": [(type(cb).__name__, cb.run) for cb in learn.cbs],
        "fields": (learn.fitting, learn.nested, learn.peeking, learn.entered, learn.logger, learn.create_mbar),
        "pass": (learn.batch, learn.pred, learn.training, learn.error),
        "modes": [module.training for module in learn.model.modules()],
        "writers": [thread.name for thread in threading.enumerate() if thread.name.startswith("layered")],
    }


def is_litter(name):
    return any(part in name for part in (".tmp", ".layered-lock", ".unpacking", ".part", ".new", ".old"))


def litter(folder):
    return [name for name in (str(file.relative_to(folder)) for file in folder.rglob("*")) if is_litter(name)]


def outcome(verb, folder, failing):
    """The error of a verb while one operation fails, or None; and all that is wrong about it."""
    wrong: list[str] = []
    learn = verb.make(folder)
    before, error, res = state_of(learn), None, None
    old = weights(learn) if isinstance(verb, Load) else None
    with failing:
        try:
            res = verb.do(folder, learn)
        except Exception as raised:
            error = raised
    if error is not None:
        if not isinstance(error, LayeredError):
            wrong.append(f"raises {type(error).__name__}: {error}")
        elif error.fix is None and error.expected is None:
            wrong.append(f"says no fix: {error}")
        elif str(folder) not in str(error) and not any(
            word in str(error) for word in failing.done[failing.at].split()[1:]
        ):
            wrong.append(f"does not name the file: {error}")
        if state_of(learn) != before:
            wrong.append(f"leaves {[k for k, v in state_of(learn).items() if v != before[k]]}")
        if old is not None and weights(learn) != old:
            wrong.append("changes the model")
    if litter(folder) and not (failing.at >= 0 and is_litter(failing.done[failing.at])):  # what cannot be removed stays
        wrong.append(f"leaves {litter(folder)}")
    return error, res, learn, wrong


@pytest.mark.soak
@pytest.mark.parametrize("name", VERBS)
@pytest.mark.filterwarnings("ignore")
def test_any_operation_on_a_file_may_fail(tmp_path, name, monkeypatch):
    verb, dice, faults = VERBS[name], chance("failing", name), []

    def prepared(number):
        folder = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "before", folder)
        monkeypatch.setenv("LAYERED_HOME", str(folder / "home"))
        return folder

    (tmp_path / "before").mkdir()
    monkeypatch.setenv("LAYERED_HOME", str(tmp_path / "before" / "home"))
    verb.before(tmp_path / "before")
    whole = prepared("whole")
    counting = Failing(whole)
    _, res, learn, wrong = outcome(verb, whole, counting)
    assert not wrong, wrong
    wanted = verb.left(whole, learn, res)
    tries = [(at, code) for at in range(len(counting.done)) for code in (*CODES, SHORT)]
    tries = [(at, code) for at, code in tries if code != SHORT or counting.done[at].split()[0] in ("read", "write")]
    for number, (at, code) in enumerate(dice.sample(tries, min(TRIES, len(tries)))):
        folder = prepared(number)
        failing = Failing(folder, at, code)
        error, res, learn, wrong = outcome(verb, folder, failing)
        try:
            if error is not None:
                learn = verb.make(folder)
                res = verb.do(folder, learn)
            if verb.left(folder, learn, res) != wanted:
                wrong.append("ends with another result")
        except Exception as later:
            wrong.append(f"the next try fails: {type(later).__name__}: {later}")
        if wrong:
            how = errno.errorcode.get(code, "short")
            faults.append(f"{how} at {at}, {(failing.done[at:] or ['never'])[0]}: {'; '.join(wrong)}")
        shutil.rmtree(folder)
    assert not faults, f"seed {SEED}: {len(faults)} of {min(TRIES, len(tries))}\n" + "\n".join(faults)

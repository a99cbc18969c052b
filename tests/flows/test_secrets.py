"""No file that the library writes holds a secret of its command line and environment, or a folder that only concerns its author.

`LAYERED_SEED=… LAYERED_SOAK=1 pytest 'tests/flows/test_secrets.py::…[12]'` repeats number 12 of a seed.
"""

import io
import stat
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from counts import SEED, chance, soak
from PIL import Image

from layered.callback import read_record
from layered.files import save_pickle
from layered.tabular.all import Categorify, FillMissing, Normalize, TabularDataLoaders, tabular_learner
from layered.vision.all import (
    Callback,
    CategoryBlock,
    Checkpoint,
    ColReader,
    CSVLogger,
    DataBlock,
    ImageBlock,
    JSONLogger,
    Learner,
    LoggerCallback,
    RandomSplitter,
    RunRecord,
    SaveModelCallback,
    accuracy,
    get_image_files,
    load_learner,
    nn,
    noop,
    parent_label,
    vision_learner,
)

LETTERS = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
OPTIONS = (
    "token",
    "api-key",
    "password",
    "hub_token",
    "secret",
    "wandb-api-key",
    "auth-token",
    "db-pass",
    "client_secret",
)
VARIABLES = (
    "HF_TOKEN",
    "WANDB_API_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "KAGGLE_KEY",
    "GITHUB_PAT",
)
PRIVATE = {"run.json", "events.jsonl"}  # read by their owner alone, and may name folders


def some_secret(dice: Random) -> str:
    """A secret of some form, 16 characters at least."""
    core = "".join(dice.choices(LETTERS, k=dice.randint(12, 40)))
    return dice.choice(["{}", "{}+/==", "{}.x-y_z", "{}!#", "hf_{}", "ghp_{}", "sk-{}", "%40{}%21", "{}é"]).format(core)


def said_of(dice: Random, secret: str) -> list[str]:
    """Arguments of a command line that hold a secret."""
    option = dice.choice(OPTIONS)
    forms = [
        [f"--{option}", secret],
        [f"--{option}={secret}"],
        [f"-{option}", secret],
        [f"{dice.choice(VARIABLES)}={secret}"],
        [f"trainer.logger.{option}={secret}"],
        [f"https://ada:{secret}@host.example/data.tgz"],
        [f"--data=s3://ada:{secret}@host.example/data"],
        ["--db", f"postgres://ada:{secret}@host.example:5432/pets"],
        ["--header", f"Authorization: Bearer {secret}"],
        [f"--config={{'lr': 0.1, '{option}': '{secret}'}}"],
        [f'{{"{option}": "{secret}", "lr": 0.1}}'],
        [f"https://host.example/x?X-Amz-Signature={secret.replace('&', '')}&n=1"],
    ]
    return dice.choice(forms)


class Tracker(Callback):
    """A callback of somebody else's that shows its secret."""

    order = 40
    state_kinds = ()

    def __init__(self, text: str) -> None:
        self.text = text

    def log(self, metrics: Any, step: int) -> None:
        pass

    def __repr__(self) -> str:
        return f"Tracker({self.text})"


class Fails(Tracker):
    """Ends the fit with an error that tells a secret."""

    def after_epoch(self) -> None:
        raise RuntimeError(f"could not reach {self.text}")


def weighed_loss(pred: Any, targ: Any, token: str = "", url: str = "") -> Any:
    return nn.functional.cross_entropy(pred, targ.flatten())


def shown(dice: Random, secret: str) -> str:
    """A secret in a text as objects show themselves."""
    return dice.choice([
        f"token='{secret}'", f"api_key={secret!r}, steps=3", f"url='https://ada:{secret}@host.example/'",
        f"{{'password': '{secret}'}}", f"Authorization: Bearer {secret}",
    ])  # fmt: skip


def picture_learner(dice: Random, data: Path, runs: Path) -> Learner:
    noise = np.random.default_rng(0)
    for i in range(12):
        folder = data / "pq"[i % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(noise.integers(0, 255, (8, 8, 3), np.uint8)).save(folder / f"{i}.png")
    if dice.random() < 0.5:
        block = DataBlock(
            (ImageBlock, CategoryBlock), get_items=get_image_files, get_y=parent_label, splitter=RandomSplitter(seed=0)
        )
        dls = block.dataloaders(data, bs=4, num_workers=0, device="cpu")
    else:
        table = pd.DataFrame({"file": [f"{'pq'[i % 2]}/{i}.png" for i in range(12)], "label": list("pq" * 6)})
        block = DataBlock(
            (ImageBlock, CategoryBlock), get_x=ColReader("file", pref=dice.choice([f"{data}/", data])),
            get_y=ColReader("label"), splitter=RandomSplitter(seed=0),
        )  # fmt: skip
        dls = block.dataloaders(table, bs=4, num_workers=0, device="cpu", path=data)
    body = lambda pretrained=False: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    return vision_learner(dls, body, pretrained=False, path=runs)


def table_learner(dice: Random, data: Path, runs: Path) -> Learner:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=24), "b": rng.choice(["u", "v"], 24), "y": rng.choice(["p", "q"], 24)})
    frame.to_csv(data / "rows.csv", index=False)
    procs = [Categorify, FillMissing, Normalize]
    dls = TabularDataLoaders.from_csv(
        data / "rows.csv", path=data, procs=procs, y_names="y", valid_idx=range(18, 24), bs=4
    )
    return tabular_learner(dls, [4], path=runs)


def plain_learner(dice: Random, data: Path, runs: Path) -> Learner:
    torch.manual_seed(0)
    x = torch.randn(16, 3)
    torch.save(x, data / "x.pt")
    rows = [(one, int(one.sum() > 0)) for one in x]
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    loaders = torch.utils.data.DataLoader(rows, 4), torch.utils.data.DataLoader(rows, 4)
    return Learner(loaders, net, nn.CrossEntropyLoss(), path=runs, metrics=accuracy)


def unpacked(data: bytes) -> Iterator[bytes]:
    """A file as it is, the members of an archive, and what is deflated or pickled in them."""
    yield data
    if data[:2] == b"PK":
        archive = zipfile.ZipFile(io.BytesIO(data))
        for member in archive.infolist():
            yield repr((member.comment, member.extra, member.filename)).encode()
            yield from unpacked(archive.read(member))
    elif data[:1] == b"\x78":
        with suppress(zlib.error):
            yield zlib.decompress(data)


def holding(folder: Path, texts: dict[str, str]) -> list[tuple[str, str]]:
    """The files below a folder that hold one of these texts in some encoding, and its name."""
    forms = {
        name: [text.encode(how) for how in ("utf-8", "utf-16-le", "utf-16-be")]
        + [ascii(text)[1:-1].encode(), text.encode().hex().encode()]
        for name, text in texts.items()
    }
    found = []
    for file in sorted(one for one in folder.rglob("*") if one.is_file()):
        parts = list(unpacked(file.read_bytes()))
        found += [
            (str(file.relative_to(folder)), name)
            for name, all_forms in forms.items()
            if any(form in part for part in parts for form in all_forms)
        ]
    return found


def modes(folder: Path) -> dict[str, int]:
    return {
        str(file.relative_to(folder)): stat.S_IMODE(file.stat().st_mode) for file in folder.rglob("*") if file.is_file()
    }


@pytest.mark.soak
@pytest.mark.parametrize("number", range(soak(6, 400)))
def test_no_file_holds_a_secret_or_a_private_folder(tmp_path, monkeypatch, number):
    dice, secrets = chance("secrets", number), dict[str, str]()

    def secret(where: str) -> str:
        secrets[where] = some_secret(dice)
        return secrets[where]

    home, runs = tmp_path / "home-of-ada", tmp_path / "runs"
    data = home / "pets-of-ada"
    data.mkdir(parents=True)
    runs.mkdir()
    for name in dice.sample(VARIABLES, 2):
        monkeypatch.setenv(name, secret(name))
    command = ["train.py", "--lr", "0.1"]
    for i in range(dice.randint(1, 4)):
        command += said_of(dice, secret(f"argument {i}"))
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)

    learn = dice.choice([picture_learner, table_learner, plain_learner])(dice, data, runs)
    learn.logger = noop
    cbs: list[Any] = [
        RunRecord(runs / "record"),
        CSVLogger(),
        JSONLogger(append=dice.random() < 0.5),
        SaveModelCallback("train_loss"),
    ]
    if dice.random() < 0.6:
        cbs.append(Tracker(shown(dice, secret("a callback"))))
    if dice.random() < 0.4:
        cbs.append(LoggerCallback(Tracker(shown(dice, secret("a logger")))))
    if dice.random() < 0.4:
        learn.loss_func = partial(weighed_loss, token=secret("the loss"))
    if fails := dice.random() < 0.3:
        cbs.append(Fails(shown(dice, secret("an error"))))
    before = {}
    for name in dice.sample(
        ["history.csv", "history.jsonl", "record/run.json", "models/model.layered", "models/kept.layered", "x.layered"],
        3,
    ):
        file = runs / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"")
        before[name] = dice.choice([0o600, 0o640, 0o604, 0o664])
        file.chmod(before[name])
    dice.shuffle(cbs)
    with learn.no_bar():
        try:
            learn.fit(2, cbs=cbs, checkpoint=Checkpoint(runs / "run", "2 batches"), resume=dice.choice([None, "auto"]))
        except RuntimeError:
            if not fails:
                raise
    learn.save("kept")
    if not isinstance(learn.loss_func, partial):
        learn.export("x")
        assert load_learner(runs / "x.layered") is not None
    if dice.random() < 0.5:
        save_pickle(runs / "dls.pkl", {"vocab": list(getattr(learn.dls, "vocab", ["p"])), "x": torch.ones(2)})
    read_record(runs / "record")

    told = f"seed {SEED}: {command}, {[type(cb).__name__ for cb in cbs]}"
    assert not holding(runs, secrets), f"{told}: {secrets}"
    folders = {"the folder of the data": str(data), "the folder of the author": str(home)}
    named = [(file, what) for file, what in holding(runs, folders) if Path(file).name not in PRIVATE]
    assert not named, told
    left = modes(runs)
    assert {left[f"record/{name}"] for name in PRIVATE if f"record/{name}" not in before} == {0o600}, told
    assert {name: left[name] for name in before} == before, told

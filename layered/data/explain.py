"""`DataBlock.summary`: a batch is built step by step, and each step says what it was given and what it made."""

from __future__ import annotations

from typing import Any

from layered.data.subset import SPLIT_NAMES
from layered.foundation.errors import LayeredError, failed
from layered.foundation.pipeline import Pipeline, describe
from layered.foundation.seeds import Tickets, drawing, key_of
from layered.foundation.tree import to_device


def explain(block: Any, source: Any, bs: int = 4, show_batch: bool = False, **kwargs: Any) -> None:
    """Print how a `DataBlock` makes a batch of `bs` training items of `source`, then try one of every loader.

    What fails is raised where it fails, as the loaders would raise it.
    """
    print(f"Setting up the data of {describe(source)}")
    dsets = block.datasets(source, verbose=True)
    first = dsets.train.describe_item(0)
    print("\nBuilding one sample")
    sample = []
    for tl in dsets.train.tls:
        print(f"  {tl.name}\n    the item is          {describe(tl.items[0])}")
        sample.append(_apply("    ", tl.tfms, tl.items[0], f"making the {tl.name} of {first}"))
    item = tuple(sample)
    print(f"\nThe sample: {describe(item)}")

    slots = block.slots()
    loading = {"bs": bs, "num_workers": 0, "drop_last": False, **block.dls_kwargs, **kwargs}
    dls = dsets.dataloaders(after_item=slots["after_item"], **loading)
    print("\nItem transforms, one sample at a time")
    with drawing(Tickets(key_of("explain"))):
        _apply("  ", dls.train.after_item, item, f"transforming {first}")

    print(f"\nCollating {min(bs, len(dsets.train))} samples")
    batch = to_device(dls.one_batch(), dls.device)
    print(f"  the batch is         {describe(batch)}")

    print("\nBatch transforms, on the device")
    dls = dsets.dataloaders(**slots, **loading)
    with drawing(Tickets(key_of("explain"))):
        _apply("  ", dls.train.after_batch, batch, "transforming a batch")

    print("\nA batch of each loader, from the start")
    for name, dl in zip(SPLIT_NAMES, dls, strict=False):
        print(f"  {name:<20} {describe(dl.one_batch())}")
    if show_batch:
        dls.show_batch()


def _apply(indent: str, steps: Pipeline, o: Any, stage: str) -> Any:
    if not len(steps):
        print(f"{indent}no transforms")
    for i, step in enumerate(steps):
        try:
            made = steps.step(i, o)
        except Exception as error:
            cause = error.problem if isinstance(error, LayeredError) else f"{type(error).__name__}: {error}"
            print(f"{indent}{step!r} FAILED on {describe(o)}: {cause}")
            raise failed(error, stage) from error
        print(f"{indent}{repr(step)[:60]:<20} gives {describe(made)}")
        o = made
    return o

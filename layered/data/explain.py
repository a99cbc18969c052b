"""`DataBlock.summary`: a batch is built step by step, and each step says what it was given and what it made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from layered.foundation.errors import LayeredError
from layered.foundation.pipeline import Pipeline, describe
from layered.foundation.seeds import Tickets, drawing, key_of


def explain(block: Any, source: Any, bs: int = 4, show_batch: bool = False, **kwargs: Any) -> None:
    """Print how a `DataBlock` makes a batch of `bs` training items of `source`; raise what fails, where it fails."""
    print(f"Setting up the data of {str(source)[:120]}")
    dsets = block.datasets(source, verbose=True)
    n_inp = dsets.n_inp
    sample = []
    print("\nBuilding one sample")
    for i, tl in enumerate(dsets.train.tls):
        print(f"  {'input' if i < n_inp else 'target'} {i if i < n_inp else i - n_inp}")
        o = tl.items[0]
        print(f"    the item is          {describe(o)}")
        sample.append(_apply("    ", tl.tfms, o))
    item = tuple(sample)
    print(f"\nThe sample: {describe(item)}")

    slots = block.slots()
    loading = {"bs": bs, "num_workers": 0, "drop_last": False, **block.dls_kwargs, **kwargs}
    dls = dsets.dataloaders(after_item=slots["after_item"], **{"device": "cpu", **loading})
    print("\nItem transforms, one sample at a time")
    with drawing(Tickets(key_of("explain"))):
        item = _apply("  ", dls.train.after_item, item)

    print(f"\nCollating {min(bs, len(dsets.train))} samples")
    batch = dls.one_batch()
    print(f"  the batch is         {describe(batch)}")

    print("\nBatch transforms, on the device")
    dls = dsets.dataloaders(**slots, **loading)
    with drawing(Tickets(key_of("explain"))):
        batch = _apply("  ", dls.train.after_batch, batch)
    print(f"\nA batch: {describe(batch)}")
    if show_batch:
        dls.show_batch()


def _apply(indent: str, steps: Pipeline | Sequence[Any], o: Any) -> Any:
    if not len(steps):
        print(f"{indent}no transforms")
    for step in steps:
        name = repr(step)
        try:
            o = step(o, split_idx=0)
        except Exception as error:
            cause = error.problem if isinstance(error, LayeredError) else f"{type(error).__name__}: {error}"
            print(f"{indent}{name} FAILED on {describe(o)}: {cause}")
            raise
        print(f"{indent}{name[:60]:<20} gives {describe(o)}")
    return o

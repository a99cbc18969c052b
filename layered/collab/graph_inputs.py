"""Choices into an exported graph: it scores pairs of a user and an item, as `predict` does, not all items of a user."""

from __future__ import annotations

from typing import Any

from layered.collab.data import ImplicitDataLoader
from layered.loop import Loop
from layered.tabular import table_input
from layered.training.graphs import GraphInput, graph_inputs


@graph_inputs.register("collab.choices")
def choices_input(loop: Loop, loader: Any) -> GraphInput | None:
    """The inputs of a model of choices: the codes of pairs.

    Args:
        loop: The learner.
        loader: A loader of choices.
    """
    if not isinstance(loader, ImplicitDataLoader):
        return None
    pairs = loader.dataset[loader.dataset.cat_names].copy()
    return table_input(loop, loader.new(loader.dataset.with_rows(pairs, is_processed=True)))

"""Models of other libraries in a learner: recognised by their classes, without importing anything."""

from __future__ import annotations

from collections.abc import Mapping

from layered.integrations.hf_outputs import NextTokens, hf_meaning, is_causal
from layered.integrations.lightning_methods import lightning_base
from layered.integrations.lightning_modules import LightningFit
from layered.loop import Loop, unwrapped


def adopt_model(loop: Loop, given: Mapping[str, object]) -> None:
    """Prepare a learner for its model: one of transformers, or a LightningModule.

    A LightningModule is trained by its own methods, unless a loss or a step was given: it is then a model like any other.

    Args:
        loop: The learner, which has just been made.
        given: What it was made with: "loss_func", "opt_func", "lr" and "step", None for what was left out.
    """
    model = unwrapped(loop.model)
    loop.output_meaning = hf_meaning(model)
    if given["loss_func"] is not None or given["step"] is not None:
        return
    if is_causal(model):
        loop.add_cbs(NextTokens())
    if lightning_base(model) is not None:
        fit = LightningFit(model)
        loop.add_cbs(fit)
        fit.begin(given)

"""What a model makes of texts before its head decides: a row for each, to compare texts by."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from layered.foundation import checked
from layered.inference import embed as embed_items
from layered.loop import Cbs, unwrapped
from layered.text.models.heads import SentenceEncoder
from layered.text.models.transformers import TransformerEncoder, masked_mean
from layered.training import Learner


@checked
def embed(
    learn: Learner,
    items: object = None,
    layer: nn.Module | str | None = None,
    *,
    ds_idx: int = 1,
    dl: Iterable[Any] | None = None,
    pool: Callable[[Any], Tensor] | None = None,
    normalize: bool = False,
    cbs: Cbs = None,
) -> Tensor:
    """The mean of what the encoder makes of each text's tokens, a row for each text in the order of the texts.

        features = learn.embed(texts)
        similarities, positions = most_similar(features, learn.embed(["a dull plot"]), k=5)

    They are good from the start if the encoder was trained to compare texts.

    Args:
        learn: The learner.
        items: A text, or anything that inputs are made from, as for `dls.test_dl`: texts, files, rows, …; by default those of
            `ds_idx`.
        layer: A module of the model, or its name, whose output is taken instead: see `Learner.embed`.
        ds_idx: Which of the learner's loaders, with all its items: 1 validation, 0 training.
        dl: A loader of any library, in place of `items`.
        pool: Makes [text, feature] of the encoder's output, which is a pair: [text, token, channel], and a mask that is true for
            padding.
        normalize: Scale each row to length 1, so that products of rows are cosines.
        cbs: Callbacks for this pass only.

    Returns:
        float32 [text, feature], on the CPU.

    Raises:
        UnknownName: The model has no such layer.
        BadValue: The layer does not give a row for each text.
    """
    model = unwrapped(learn.model)
    if (
        layer is None
        and isinstance(model, nn.Sequential)
        and isinstance(model[0], (SentenceEncoder, TransformerEncoder))
    ):
        layer, pool = model[0], pool or (lambda encoded: masked_mean(*encoded))
    items = [items] if isinstance(items, str) else items
    return embed_items(learn, items, layer, ds_idx=ds_idx, dl=dl, pool=pool, normalize=normalize, cbs=cbs)

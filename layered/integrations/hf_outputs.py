"""How the outputs of a model of transformers are read, as its class and its configuration say."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from layered.foundation import output_scores
from layered.loop import IGNORED, Callback
from layered.nn import Meaning

_OF_CLASSES = re.compile(r"For((Sequence|Token|Image|Audio)Classification|MultipleChoice)$")
_CAUSAL = re.compile(r"(?!XLNet).*(ForCausalLM|LMHeadModel)$")  # XLNet's labels stand where their logits do


class Decisions:
    """Decides by the scores of a model with a head for classes: the best class, or every label with a positive score.

    Args:
        config: Of the model. It learns from its first targets whether they are classes, several labels, or numbers.
    """

    def __init__(self, config: Any) -> None:
        self.config = config

    def decodes(self, output: Any) -> Any:
        """The decisions.

        Args:
            output: What the model returned, or its scores.
        """
        scores = output_scores(output)
        if self.config.problem_type == "multi_label_classification":
            return scores > 0
        is_number = self.config.problem_type == "regression" or scores.shape[-1] == 1
        return scores if is_number else scores.argmax(-1)


class NextTokens(Callback):
    """Gives metrics and `get_preds` the targets that the logits of a causal language model predict: its labels, one token on.

    The model gets its labels as they are, and moves them itself.
    """

    def before_batch(self) -> None:
        learn = self.learn
        labels = learn.batch.get("labels") if isinstance(learn.batch, Mapping) else None
        if isinstance(labels, Tensor):
            following = F.pad(labels[:, 1:], (0, 1), value=IGNORED)
            learn.yb = tuple(following if y is labels else y for y in learn.yb)


def is_causal(model: nn.Module) -> bool:
    """Whether a model is a causal language model of transformers.

    Args:
        model: Any model.
    """
    return _is_of_transformers(model) and _CAUSAL.match(type(model).__name__) is not None


def hf_meaning(model: nn.Module) -> Meaning | None:
    """How the outputs of a model are read: its `logits` as they are, and decisions from them.

    Args:
        model: Any model.

    Returns:
        None for a model that is not of transformers, or has no head for classes.
    """
    if not _is_of_transformers(model) or _OF_CLASSES.search(type(model).__name__) is None:
        return None
    return Meaning(output_scores, Decisions(model.config).decodes)


def _is_of_transformers(model: nn.Module) -> bool:
    transformers: Any = sys.modules.get("transformers")
    return transformers is not None and isinstance(model, transformers.PreTrainedModel)

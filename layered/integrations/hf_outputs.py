"""How the outputs of a model of transformers are read, as its class and its configuration say."""

from __future__ import annotations

import re
import sys
from typing import Any

from torch import nn

from layered.foundation import output_scores
from layered.nn import Meaning

_OF_CLASSES = re.compile(r"For((Sequence|Token|Image|Audio)Classification|MultipleChoice)$")


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


def hf_meaning(model: nn.Module) -> Meaning | None:
    """How the outputs of a model are read: its `logits` as they are, and decisions from them.

    Args:
        model: Any model.

    Returns:
        None for a model that is not of transformers, or has no head for classes.
    """
    transformers: Any = sys.modules.get("transformers")
    if transformers is None or not isinstance(model, transformers.PreTrainedModel):
        return None
    is_classifier = _OF_CLASSES.search(type(model).__name__) is not None
    return Meaning(output_scores, Decisions(model.config).decodes) if is_classifier else None

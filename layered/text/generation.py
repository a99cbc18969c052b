"""How a language model goes on with a text: the choice of the next word."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from layered.foundation import BadValue, OutOfRange, warn


def check_sampling(temperature: float, min_p: float | None, top_k: int | None, top_p: float | None) -> None:
    """Refuse settings of `next_word` that make no sense.

    Args:
        temperature: As there.
        min_p: As there.
        top_k: As there.
        top_p: As there.

    Raises:
        OutOfRange: A setting is outside its range.
    """
    if not temperature >= 0:
        raise OutOfRange("temperature cannot be negative", got=temperature, expected="0 or more; 1 leaves it")
    for name, share in (("min_p", min_p), ("top_p", top_p)):
        if share is not None and not 0 <= share <= 1:
            raise OutOfRange(f"{name} is a probability", got=share, expected="a number from 0 to 1")
    if top_k is not None and top_k < 1:
        raise OutOfRange("top_k is a number of words", got=top_k, expected="at least 1")


def next_word(
    scores: Tensor,
    temperature: float = 1.0,
    min_p: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    never: Sequence[int] = (),
    generator: torch.Generator | None = None,
) -> int:
    """Draw the next word by its probability, p ** (1 / temperature).

    Args:
        scores: The scores (logits) of the words, [word].
        temperature: Below 1 likely words become likelier; 0 takes the likeliest.
        min_p: Words that are less probable are left out.
        top_k: Only so many of the likeliest words are drawn from.
        top_p: Only the likeliest words that together have this probability are drawn from.
        never: Words that are left out.
        generator: What is drawn from; torch's own by default.

    Raises:
        BadValue: The scores are not finite.

    Examples:
        >>> next_word(torch.tensor([0.0, 3.0, 1.0]), temperature=0)
        1
        >>> next_word(torch.tensor([0.0, 3.0, 1.0]), top_k=1, never=[1])
        2
    """
    log_p = scores.float().log_softmax(0)
    if not log_p.isfinite().all():
        raise BadValue(
            "the model's scores are not finite", fix="train it with a smaller rate, or load its weights again"
        )
    log_p[list(never)] = -torch.inf
    if min_p is not None:
        rare = log_p.exp() < min_p
        if rare.all():
            warn(f"no word has a probability of min_p={min_p}: it is ignored")
        else:
            log_p[rare] = -torch.inf
    if temperature == 0:
        return int(log_p.argmax())
    p, words = (log_p / temperature).softmax(0).sort(descending=True, stable=True)
    if top_k is not None:
        p[top_k:] = 0
    if top_p is not None:
        p[p.cumsum(0) - p > top_p * p.sum()] = 0
    return int(words[torch.multinomial(p, 1, generator=generator)])

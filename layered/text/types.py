"""What the numbers of a text are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from layered.foundation import TensorBase, leaves, plain

_KEEPING = {
    Tensor.to, Tensor.cpu, Tensor.cuda, Tensor.clone, Tensor.detach, Tensor.contiguous, Tensor.pin_memory, Tensor.long,
    Tensor.int,
}  # fmt: skip
_TAKING = {Tensor.__getitem__, Tensor.unbind, Tensor.flip}  # which tokens they take depends on their arguments alone


BESIDE = {"words": -1, "segments": 0}  # what a text may say of each of its tokens, and what it says of padding


class TensorText(TensorBase):
    """The indices of a text's tokens in a vocabulary: int64 [token] or [batch, token].

    A padded text has an attribute `padding`, bool of the same shape: where it is padding, whatever the index there. One whose
    words were given has an attribute `words`, int64 of the same shape: at the first token of each word the number of the word,
    and -1 elsewhere. One of a pair of texts has an attribute `segments`, int64 of the same shape: 0 or 1 as the tokenizer says.
    Copies and parts of it have them too; the result of a calculation has none.

    Attributes:
        word_count: How many words were given, those included that were cut off.
    """

    padding: Tensor
    words: Tensor
    segments: Tensor
    word_count: int

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = super().__torch_function__(func, types, args, kwargs)
        if func in _KEEPING or not isinstance(out, (Tensor, tuple, list)):
            return out
        made = [o for o in leaves(out) if isinstance(o, TensorText) and not any(o is arg for arg in args)]
        for name in ("padding", *BESIDE):
            for o in made:
                o.__dict__.pop(name, None)
            if func in _TAKING and isinstance(args[0], TensorText) and name in vars(args[0]):
                taken = func(vars(args[0])[name], *args[1:], **(kwargs or {}))
                for o, part in zip(made, leaves(taken), strict=True):
                    setattr(o, name, part)
        return out

    def as_plain(self) -> Tensor:
        """The same data as a plain tensor, with the attributes that models read, `padding` and `segments`, if this has them."""
        ids = super().as_plain()
        for name in ("padding", "segments"):
            if name in self.__dict__:
                setattr(ids, name, self.__dict__[name])
        return ids


IGNORED = -100  # the target that losses of torch leave out by default


class TensorTokenCategory(TensorBase):
    """The class of each token's word: int64 [token] or [batch, token], and -100 for tokens that do not count.

    Before they are spread over tokens, the classes of the words: int64 [word].
    """


class LMTensorText(TensorText):
    """A piece of a stream of tokens, of which the next one is to be predicted: int64 [token] or [batch, token]."""


def padding_mask(ids: Tensor, pad_idx: int = 1) -> Tensor:
    """Where a batch of texts is padding: bool [batch, token], on the device of `ids`.

    The loader that padded it has marked that, so that a token of a text is none, even if it has the index of the padding.
    A tensor that no loader has padded is padding where it is `pad_idx`.

    Args:
        ids: What a model gets: int64 [batch, token].
        pad_idx: The index of the padding.

    Examples:
        >>> padding_mask(TensorText([[2, 5, 1]]))
        tensor([[False, False,  True]])
    """
    marked: Tensor | None = getattr(ids, "padding", None)
    return plain(ids) == pad_idx if marked is None else marked.to(ids.device, non_blocking=True)

"""What the numbers of a text are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from layered.foundation import TensorBase

_KEEPING = {
    Tensor.to, Tensor.cpu, Tensor.cuda, Tensor.clone, Tensor.detach, Tensor.contiguous, Tensor.pin_memory, Tensor.long,
    Tensor.int,
}  # fmt: skip


class TensorText(TensorBase):
    """The indices of a text's tokens in a vocabulary: int64 [token] or [batch, token].

    A padded text has an attribute `padding`, bool of the same shape: where it is padding, whatever the index there. Copies and
    rows of it have it too; the result of any other operation has none.
    """

    padding: Tensor

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = super().__torch_function__(func, types, args, kwargs)
        is_new = isinstance(out, TensorText) and not any(out is arg for arg in args)
        if is_new and "padding" in out.__dict__ and func not in _KEEPING:
            padding = out.__dict__.pop("padding")
            if func is Tensor.__getitem__ and isinstance(args[0], TensorText):
                out.padding = padding[args[1]]
        return out

    def as_plain(self) -> Tensor:
        """The same data as a plain tensor, with the attribute `padding` if this has it: see `padding_mask`."""
        plain = super().as_plain()
        if "padding" in self.__dict__:
            plain.padding = self.padding  # type: ignore[attr-defined]  # a tensor takes attributes
        return plain


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
        >>> padding_mask(torch.tensor([[2, 5, 1]]))
        tensor([[False, False,  True]])
    """
    marked: Tensor | None = getattr(ids, "padding", None)
    return ids == pad_idx if marked is None else marked.to(ids.device, non_blocking=True)

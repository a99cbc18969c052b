"""Tensors with a meaning: a `TensorImage` is shown, cropped and stored as an image.

Meaning lives at the edges: transforms and display pick their code by type. Kernels and models see plain tensors.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from layered.foundation.display import show_image, show_title
from layered.foundation.errors import BadValue, OutOfRange
from layered.foundation.registry import Registry
from layered.foundation.tree import leaves, map_tree

S = TypeVar("S", bound="TensorBase")


def tensor(x: Any, *rest: Any, **kwargs: Any) -> Tensor:
    """A tensor from numbers, lists, arrays, images, Series or frames; float64 becomes float32.

    Examples:
        >>> tensor(1, 2, 3), tensor([1.5]).dtype
        (tensor([1, 2, 3]), torch.float32)
    """
    if rest:
        x = (x, *rest)
    if isinstance(x, Tensor):
        res = x
    elif isinstance(x, np.ndarray) or hasattr(x, "__array__") or hasattr(x, "__array_interface__"):
        array = np.ascontiguousarray(np.asarray(x)) if np.ndim(x) else np.asarray(x)
        if array.dtype == np.uint16:
            array = array.astype(np.float32)
        res = torch.as_tensor(array if array.flags.writeable else array.copy(), **kwargs)
    elif isinstance(x, (list, tuple)) and x and isinstance(x[0], (Tensor, np.ndarray)):
        res = torch.stack([tensor(o) for o in x])
    else:
        res = torch.tensor(list(x) if isinstance(x, Sequence) else x, **kwargs)
    return res.float() if res.dtype is torch.float64 and "dtype" not in kwargs else res


def pca(x: Any, k: int = 2) -> Tensor:
    """The first `k` principal components of rows of numbers: where each row lies along the directions in which they vary most.

    Args:
        x: [row, number], of what `tensor` takes.
        k: How many, from 1 to the smaller of rows and numbers.

    Returns:
        A plain float tensor [row, k] around 0, the component with the largest variance first; a component may come
            out with its sign turned.

    Raises:
        BadValue: For what is no table of finite numbers.
        OutOfRange: For another `k`.

    Source: Pearson 1901; the right singular vectors of the centred rows

    Examples:
        >>> pca([[1.0, 1.0], [4.0, 5.0], [7.0, 9.0]], 1).abs().round().tolist()
        [[5.0], [0.0], [5.0]]
    """
    rows: Tensor = plain(x if isinstance(x, Tensor) else tensor(x))
    rows = rows if rows.dtype is torch.float64 else rows.float()
    if rows.ndim != 2 or not rows.isfinite().all():
        raise BadValue(
            "principal components are of rows of finite numbers", got=tuple(rows.shape), expected="[row, number]"
        )
    if not 1 <= k <= min(rows.shape):
        raise OutOfRange("k is a number of components", got=k, expected=f"from 1 to {min(rows.shape)}")
    centred = rows - rows.mean(0)
    directions: Tensor = torch.linalg.svd(centred, full_matrices=False).Vh[:k]
    return centred @ directions.T


def plain(x: Any) -> Any:
    """The same data as a plain `torch.Tensor`; anything else unchanged."""
    return x.as_subclass(Tensor) if isinstance(x, TensorBase) else x


def plain_tree(tree: Any) -> Any:
    """`plain` on every tensor of nested tuples, lists and mappings."""
    return map_tree(plain, tree)


def retype(new: Any, like: Any) -> Any:
    """`new` with the meaning of `like`: its class, and what it carries besides numbers."""
    if isinstance(new, Tensor) and isinstance(like, TensorBase):
        if type(new) is type(like) or not issubclass(type(like), type(new)):
            return new
        return _mark(new, type(like), like.__dict__)
    kind = type(like)
    if type(new) is kind or not issubclass(kind, type(new)) or kind is bool:
        return new
    recast = getattr(kind, "recast", None)
    if recast is not None:
        return recast(new)
    return kind(new) if isinstance(new, (str, int, float, tuple, list)) else new


def _mark(x: Tensor, kind: type[S], meta: dict[str, Any]) -> S:
    res = x.as_subclass(kind)
    if meta:
        res.__dict__.update(meta)
    return res


class TensorBase(Tensor):
    """A tensor whose class is its meaning; class and attributes survive operations, copies and pickling.

    Args:
        x: Anything `tensor` takes.
        meta: Attributes that travel with it.

    Examples:
        >>> TensorImage([[1, 2]]) + 1
        TensorImage([[2, 3]])
    """

    def __new__(cls: type[S], x: Any, **meta: Any) -> S:
        return _mark(tensor(x), cls, {**(x.__dict__ if isinstance(x, TensorBase) else {}), **meta})

    def __init__(self, x: Any, **meta: Any) -> None: ...

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            out = func(*args, **(kwargs or {}))
        if func in torch.overrides.get_default_nowrap_functions():
            return out
        like = next((a for a in leaves((args, kwargs or {})) if isinstance(a, TensorBase)), None)
        return out if like is None else _mark_all(out, like)

    def as_plain(self) -> Tensor:
        """The same data as a plain tensor."""
        return self.as_subclass(Tensor)

    def __deepcopy__(self: S, memo: dict[int, Any]) -> S:
        if id(self) not in memo:
            memo[id(self)] = _mark(copy.deepcopy(self.as_plain(), memo), type(self), copy.deepcopy(self.__dict__, memo))
        return memo[id(self)]  # type: ignore[no-any-return]  # what stands there is the copy


def _mark_all(out: Any, like: TensorBase) -> Any:
    if isinstance(out, Tensor):
        return _mark(out, type(like), like.__dict__) if type(out) is Tensor else out
    if isinstance(out, (tuple, list)):
        return type(out)([_mark_all(o, like) for o in out])  # also what `max` returns
    return out


image_methods: Registry[Callable[..., Any]] = Registry("image method")


class _ImageMethod:
    """A method whose code the vision floor puts into `image_methods`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, image: Any, owner: type) -> Any:
        if image is None:
            return self
        if self.name not in image_methods:
            raise AttributeError(f"images have no method '{self.name}' yet: import layered.vision")
        function = image_methods.get(self.name)
        return lambda *args, **kwargs: function(image, *args, **kwargs)


class TensorImageBase(TensorBase):
    """An image: [..., channel, height, width]; bytes, or float in [0, 1] until normalised."""

    show_args: ClassVar[dict[str, Any]] = {"cmap": "viridis"}
    flip_lr = _ImageMethod()
    dihedral = _ImageMethod()
    rotate = _ImageMethod()
    zoom = _ImageMethod()
    warp = _ImageMethod()
    affine_coord = _ImageMethod()

    def show(self, ctx: Any = None, **kwargs: Any) -> Any:
        """Draw it on axes `ctx` (new ones by default) and return them."""
        return show_image(self, ctx=ctx, **{**self.show_args, **kwargs})


class TensorImage(TensorImageBase):
    """A colour image: [..., 3, height, width]."""

    lighting = _ImageMethod()
    brightness = _ImageMethod()
    contrast = _ImageMethod()
    saturation = _ImageMethod()
    hue = _ImageMethod()


class TensorImageBW(TensorImage):
    """A grey image: [..., 1, height, width]."""

    show_args: ClassVar[dict[str, Any]] = {"cmap": "Greys"}


class TensorMask(TensorImageBase):
    """A class for each pixel: integers [..., height, width]."""

    show_args: ClassVar[dict[str, Any]] = {"alpha": 0.5, "cmap": "tab20", "interpolation": "nearest"}

    def show(self, ctx: Any = None, **kwargs: Any) -> Any:
        """Draw it on axes `ctx` (new ones by default) and return them.

        A class has the same of twenty colours in every mask, unless `cmap`, `vmin` or `vmax` say otherwise.
        """
        if kwargs.keys() & {"cmap", "vmin", "vmax"}:
            return super().show(ctx, **kwargs)
        return show_image(self.as_plain().int() % 20, ctx=ctx, **{**self.show_args, "vmin": 0, "vmax": 19, **kwargs})


class TensorCategory(TensorBase):
    """The index of a class in a vocabulary: int64 [] or [batch]."""


class TensorMultiCategory(TensorCategory):
    """Several classes at once: 0 and 1 for each of the vocabulary, [..., class]."""


class _Titled:
    """A value that is shown as the title of what it belongs to."""

    def show(self, ctx: Any = None, **kwargs: Any) -> Any:
        return show_title(str(self), ctx=ctx, **kwargs)


class TitledInt(_Titled, int):
    """A whole number that is shown as a title."""


class TitledFloat(_Titled, float):
    """A number that is shown as a title."""


class TitledStr(_Titled, str):
    """A text that is shown as a title."""

    def truncate(self, words: int) -> TitledStr:
        """The first `words` words."""
        return TitledStr(" ".join(self.split(" ")[:words]))


class TitledTensorScalar(TensorBase):
    """A number in a tensor that is shown as a title."""

    def show(self, ctx: Any = None, **kwargs: Any) -> Any:
        return show_title(f"{self.item():.4g}", ctx=ctx, **kwargs)

"""Tensors with a meaning: a `TensorImage` is shown, cropped and stored as an image.

The meaning matters at the edges, where transforms and display choose their code by type; models see plain tensors.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from layered.foundation.display import get_grid, show_image, show_legend, show_title
from layered.foundation.errors import BadValue, OutOfRange
from layered.foundation.registry import Registry
from layered.foundation.tree import leaves, map_tree
from layered.foundation.types import Array, is_array_like

if TYPE_CHECKING:
    from matplotlib.axes import Axes

T = TypeVar("T")
S = TypeVar("S", bound="TensorBase")


def tensor(x: object, *rest: object, **kwargs: Any) -> Tensor:
    """A tensor from numbers, lists, arrays, images, Series or frames; float64 becomes float32, unless `dtype` is given.

    Args:
        x: The data, or the first number; a tensor is not copied.
        rest: Further numbers.
        kwargs: Options of `torch.tensor`, such as `dtype` and `device`.

    Examples:
        >>> tensor(1, 2, 3), tensor([1.5]).dtype
        (tensor([1, 2, 3]), torch.float32)
    """
    if rest:
        x = (x, *rest)
    if isinstance(x, Tensor):
        res = x
    elif isinstance(x, np.ndarray) or is_array_like(x) or hasattr(type(x), "__array_interface__"):
        # The class is asked, not the object: PIL's property encodes all pixels each time it is read.
        array: Array = np.asarray(x)
        array = np.ascontiguousarray(array) if array.ndim else array  # it makes an axis for a single number
        if array.dtype == np.uint16:
            array = array.astype(np.float32)  # torch can do little with uint16
        res = torch.as_tensor(array if array.flags.writeable else array.copy(), **kwargs)
    elif isinstance(x, (list, tuple)) and x and isinstance(x[0], (Tensor, np.ndarray)):
        res = torch.stack([tensor(o) for o in x])
    else:
        res = torch.tensor(list(x) if isinstance(x, Sequence) else x, **kwargs)
    return res.float() if res.dtype is torch.float64 and "dtype" not in kwargs else res


def pca(x: object, k: int = 2) -> Tensor:
    """The first `k` principal components: each row's coordinates along the directions in which the rows vary most.

    Args:
        x: A table of numbers [row, number], in any form that `tensor` takes.
        k: The number of components, from 1 to the smaller of rows and columns.

    Returns:
        A plain float tensor [row, k], centred at 0, components in order of decreasing variance; the sign of a
            component is arbitrary.

    Raises:
        BadValue: `x` is not a table of finite numbers.
        OutOfRange: `k` is not in that range.

    Source: Pearson 1901; computed from the right singular vectors of the centred rows.

    Examples:
        >>> pca([[1.0, 1.0], [4.0, 5.0], [7.0, 9.0]], 1).abs().round().tolist()
        [[5.0], [0.0], [5.0]]
    """
    rows: Tensor = plain(x if isinstance(x, Tensor) else tensor(x))
    rows = rows if rows.dtype is torch.float64 else rows.float()
    if rows.ndim != 2 or not rows.isfinite().all():
        raise BadValue(
            "pca needs a table of finite numbers", got=tuple(rows.shape), expected="[row, number], without nan or inf"
        )
    if not 1 <= k <= min(rows.shape):
        raise OutOfRange("invalid number of components", got=f"k={k}", expected=f"from 1 to {min(rows.shape)}")
    centred = rows - rows.mean(0)
    directions: Tensor = torch.linalg.svd(centred, full_matrices=False).Vh[:k]
    return centred @ directions.T


@overload
def plain(x: Tensor) -> Tensor: ...
@overload
def plain(x: T) -> T: ...
def plain(x: object) -> object:
    """The same data as a plain `torch.Tensor`; anything that is not a tensor with a meaning is returned as it is.

    Args:
        x: Anything.
    """
    return x.as_plain() if isinstance(x, TensorBase) else x


def plain_tree(tree: object) -> Any:
    """The tree with every tensor plain.

    Args:
        tree: Nested tuples, lists and mappings.
    """
    return map_tree(plain, tree)


def retype(new: object, like: object) -> Any:
    """Give a result back the meaning of its input: the class, and the attributes of a tensor.

    Args:
        new: The result. Its class is changed only to a subclass of it, and never to `bool`.
        like: The input.
    """
    if isinstance(new, Tensor) and isinstance(like, TensorBase):
        if type(new) is type(like) or not issubclass(type(like), type(new)):
            return new
        return _mark(new, type(like), like.__dict__)
    kind: Any = type(like)
    if type(new) is kind or not issubclass(kind, type(new)) or kind is bool:
        return new
    recast = getattr(kind, "recast", None)  # images of PIL: their constructor takes no image
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
        x: Anything that `tensor` takes.
        meta: Attributes to carry along.

    Examples:
        >>> TensorImage([[1, 2]]) + 1
        TensorImage([[2, 3]])
    """

    def __new__(cls: type[S], x: object, **meta: object) -> S:
        return _mark(tensor(x), cls, {**(x.__dict__ if isinstance(x, TensorBase) else {}), **meta})

    def __init__(self, x: object, **meta: object) -> None: ...  # instead of that of Tensor, which takes no meta

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = torch._C._disabled_torch_function_impl(func, types, args, kwargs or {})
        if func in torch.overrides.get_default_nowrap_functions():
            return out
        like = args[0] if args and isinstance(args[0], TensorBase) else None  # as of methods: no need to search
        if like is None:
            like = next((a for a in leaves((args, kwargs or {})) if isinstance(a, TensorBase)), None)
        return out if like is None else _mark_all(out, like)

    def as_plain(self) -> Tensor:
        """The same data as a plain tensor."""
        return self.as_subclass(Tensor)

    def __deepcopy__(self: S, memo: dict[int, Any]) -> S:
        if id(self) not in memo:
            memo[id(self)] = _mark(copy.deepcopy(self.as_plain(), memo), type(self), copy.deepcopy(self.__dict__, memo))
        return memo[id(self)]  # type: ignore[no-any-return]  # the copy that was stored under this id


def _mark_all(out: object, like: TensorBase) -> Any:
    if isinstance(out, Tensor):
        return _mark(out, type(like), like.__dict__) if type(out) is Tensor else out
    if isinstance(out, (tuple, list)):
        kind: Any = type(out)  # also the structseq that `max` returns, which takes one iterable
        return kind([_mark_all(o, like) for o in out])
    return out


image_methods: Registry[Callable[..., Any]] = Registry("image method")


class ImageMethod:
    """A method of images, or of what lies in them, whose code `layered.vision` registers in `image_methods`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, image: TensorBase | None, owner: type) -> Any:
        if image is None:
            return self
        if self.name not in image_methods:
            raise AttributeError(f"images have no method '{self.name}' yet: import layered.vision")
        function = image_methods.get(self.name)
        return lambda *args, **kwargs: function(image, *args, **kwargs)

    def __call__(self, image: TensorBase, *args: Any, **kwargs: Any) -> Any:
        return self.__get__(image, type(image))(*args, **kwargs)


class TensorImageBase(TensorBase):
    """An image: [..., channel, height, width]; bytes, or float in [0, 1] until normalised."""

    show_args: ClassVar[dict[str, Any]] = {}
    flip_lr = ImageMethod()
    flip_batch = ImageMethod()
    dihedral = ImageMethod()
    dihedral_batch = ImageMethod()
    rotate = ImageMethod()
    zoom = ImageMethod()
    warp = ImageMethod()
    affine_coord = ImageMethod()

    def show(self, ctx: Axes | None = None, **kwargs: Any) -> Axes:
        """Draw it on axes `ctx` (new ones by default) and return them."""
        return show_image(self, ctx=ctx, **{**self.show_args, **kwargs})


class TensorImage(TensorImageBase):
    """A colour image: [..., 3, height, width]; one of a single channel is drawn grey, from black at 0 to white."""

    def show(self, ctx: Axes | None = None, **kwargs: Any) -> Axes:
        """Draw it on axes `ctx` (new ones by default) and return them."""
        return show_image(self, ctx=ctx, **{**grey_args(self.as_plain()), **self.show_args, **kwargs})

    lighting = ImageMethod()
    brightness = ImageMethod()
    contrast = ImageMethod()
    saturation = ImageMethod()
    hsv = ImageMethod()
    hue = ImageMethod()


class TensorImageBW(TensorImage):
    """A grey image: [..., 1, height, width]."""


class TensorMask(TensorImageBase):
    """The class of each pixel: integers [..., height, width]."""

    show_args: ClassVar[dict[str, Any]] = {"alpha": 0.5, "cmap": "tab20", "interpolation": "nearest"}

    def show(self, ctx: Axes | None = None, **kwargs: Any) -> Axes:
        """Draw it on axes `ctx` and return them; on new axes, by default, with a legend.

        A class has the same one of twenty colours in every mask, unless `cmap`, `vmin` or `vmax` is given.
        """
        given = ctx if ctx is not None else kwargs.pop("ax", None)
        ax = get_grid(1, figsize=kwargs.pop("figsize", None), layout="compressed")[0] if given is None else given
        if kwargs.keys() & {"cmap", "vmin", "vmax"}:
            show_image(self, ctx=ax, **{**self.show_args, **kwargs})
        else:
            numbers = _TAB20[self.as_plain().cpu().long() % 20]
            show_image(numbers, ctx=ax, **{**self.show_args, "vmin": 0, "vmax": 19, **kwargs})
        if given is None:
            mask_legend([(ax.images[-1], self)], ax.figure)
        return ax


_TAB20 = torch.tensor([*range(0, 20, 2), *range(1, 20, 2)])  # matplotlib's order is dark blue, light blue, …


def grey_args(pixels: Tensor | Array) -> dict[str, Any]:
    """How `imshow` draws a picture of one channel: black at 0, white at 1 or 255 in every picture; {} for other pictures.

    Args:
        pixels: [1, height, width] or [height, width]; bytes, or floats in [0, 1]. Other ranges have their own limits.
    """
    if len(pixels.shape) > 2 and pixels.shape[0] != 1:
        return {}
    if pixels.dtype in (torch.uint8, np.uint8):
        return {"cmap": "gray", "vmin": 0, "vmax": 255}
    low, high = float(pixels.min()), float(pixels.max())
    return {"cmap": "gray", **({"vmin": 0, "vmax": 1} if low >= -1e-3 and high <= 1 + 1e-3 else {})}


def mask_legend(drawn: Sequence[tuple[Any, TensorMask]], figure: Any) -> None:
    """Explain the colours of masks: a name for each class that occurs in one of them.

    Args:
        drawn: What `imshow` returned, and the mask, for each.
        figure: The figure below which the legend stands.
    """
    colors: dict[int, Any] = {}
    names: Sequence[str] = ()
    for image, mask in drawn:
        classes, shown = (
            mask.as_plain().cpu().flatten().long(),
            torch.as_tensor(np.asarray(image.get_array())).flatten(),
        )
        names = getattr(mask, "codes", None) or names
        for k in classes.unique().tolist():  # type: ignore[no-untyped-call]
            colors.setdefault(k, image.cmap(image.norm(float(shown[(classes == k).nonzero()[0, 0]]))))
    labels = {names[k] if k < len(names) else str(k): colors[k] for k in sorted(colors)}
    show_legend(figure, labels)


class TensorFlowField(TensorBase):
    """Where each pixel of a result lies in its source: [..., height, width, 2], as (x, y) from -1 to 1."""


class TensorCategory(TensorBase):
    """The index of a class in a vocabulary: int64 [] or [batch]."""


class TensorMultiCategory(TensorCategory):
    """Several classes at once: a 0 or 1 for each class of the vocabulary, [..., class]."""


class _Titled:
    """A value that is shown as the title of the picture it belongs to."""

    def show(self, ctx: Axes | None = None, **kwargs: Any) -> Axes | None:
        """Set it as the title of axes `ctx`, or print it, and return the axes."""
        return show_title(str(self), ctx=ctx, **kwargs)


class TitledInt(_Titled, int):
    """An integer that is shown as a title."""


class TitledFloat(_Titled, float):
    """A number that is shown as a title."""


# Thai to Khmer, Chinese and Japanese.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
)
_WORD = re.compile(f"[{_UNSPACED}]|[^ {_UNSPACED}]+")


class TitledStr(_Titled, str):
    """A string that is shown as a title."""

    def truncate(self, words: int) -> TitledStr:
        """The first `words` words; where a script has no spaces between words, each character counts as one."""
        found = list(itertools.islice(_WORD.finditer(self), words))
        return TitledStr(self[: found[-1].end()] if found else "")


class TitledTensorScalar(TensorBase):
    """A number in a tensor that is shown as a title."""

    def show(self, ctx: Axes | None = None, **kwargs: Any) -> Axes | None:
        """Set it as the title of axes `ctx`, or print it, and return the axes."""
        return show_title(f"{self.item():.4g}", ctx=ctx, **kwargs)

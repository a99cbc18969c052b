"""`vision_learner` and `unet_learner`: a pretrained body, new layers for this data, and the learner that fine-tunes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack, cast

from PIL import Image
from torch import Tensor, nn

from layered.data import DataLoaders, Datasets, Normalize, TfmdDL, outputs_for
from layered.foundation import BadValue, delegates, describe, first, is_foreign, names_of
from layered.integrations import timm_stats
from layered.training import Learner, LearnerArgs
from layered.vision.channels import MultiChannelImage
from layered.vision.models.backbones import Arch, Cut, Splitter, Stats, Weights, default_split, find_arch, model_meta
from layered.vision.models.create import InitFunc, check_arch_args, create_unet_model, create_vision_model
from layered.vision.models.unet import DynamicUnet, UnetArgs
from layered.vision.points import TensorBBox
from layered.vision.recipes import transfer_recipe, unet_recipe
from layered.vision.types import image_class


class VisionArgs(LearnerArgs, total=False):
    """What the learners for images take by keyword: `Learner`'s arguments, and the usual ones of timm's architectures."""

    img_size: int | tuple[int, int]
    patch_size: int
    drop_rate: float
    drop_path_rate: float
    attn_drop_rate: float
    act_layer: str
    norm_layer: str
    output_stride: int
    dynamic_img_size: bool
    strict_img_size: bool


class UnetLearnerArgs(VisionArgs, UnetArgs, total=False):
    """What `unet_learner` takes by keyword: arguments of `Learner`, of `DynamicUnet` and of timm's architectures."""


@delegates(Learner, keep=True)
def vision_learner(
    dls: DataLoaders,
    arch: Arch,
    normalize: bool = True,
    n_out: int | None = None,
    pretrained: bool = True,
    weights: Weights = None,
    *,
    cut: Cut = None,
    init: InitFunc | None = nn.init.kaiming_normal_,
    custom_head: nn.Module | None = None,
    concat_pool: bool = True,
    pool: bool = True,
    lin_ftrs: Sequence[int] | None = None,
    ps: float | Sequence[float] = 0.5,
    first_bn: bool = True,
    bn_final: bool = False,
    lin_first: bool = False,
    y_range: tuple[float, float] | None = None,
    n_in: int = 3,
    **kwargs: Unpack[VisionArgs],
) -> Learner:
    """A `Learner` for images: the body of `arch` with trained weights, frozen, and a new head for this data.

    The body is the documentation: copy its lines to stand one floor lower.

    Args:
        dls: The data.
        arch: A function that builds a model, from torchvision (`resnet18`) or your own; or the name of a timm model.
        normalize: Normalise batches as the weights' images were, unless the loaders do already.
        n_out: Number of outputs; by default the classes of `dls`, or its numbers to predict.
        pretrained: Start from trained weights, with the body frozen until `unfreeze`.
        weights: Which: a torchvision name or entry, a local file, or a state dict.
        cut: Where the body ends: see `create_body`; by default as the architecture needs it.
        init: Initialises the head; None keeps torch's own initialisation.
        custom_head: A head in place of `create_head(...)`, which takes the arguments below.
        concat_pool: Pool by maximum and mean, not by mean only.
        pool: Whether the head pools.
        lin_ftrs: Widths of the hidden layers of the head; [512] by default.
        ps: Dropout before the last layer, half of it before the others; or one value for each layer.
        first_bn: Batch norm before the first linear layer.
        bn_final: Batch norm after the last layer.
        lin_first: Linear layers before their batch norms.
        y_range: Squeeze the outputs into this range, by a sigmoid that never reaches its ends: give one a little wider than
            that of the targets.
        n_in: Channels of the images.
        kwargs: For `Learner`: `loss_func`, `metrics`, `cbs`, …; `splitter=block_groups` has a parameter group for each block of
            the body. What else a timm architecture takes goes to it: `img_size=96` for a vision transformer, whose
            position embeddings are resized, `drop_path_rate=0.1`, ….

    Raises:
        UnknownName: If no such architecture is known; names the nearest.
        BadArgument: If neither `Learner` nor the architecture has an argument.
        Offline: If weights cannot be downloaded.
        BadValue: If the data does not say how many outputs it needs, its images have another number of channels, or its
            targets are masks.
    """
    arch = find_arch(arch)
    learner_args, arch_args = split_arguments(kwargs)
    check_arch_args(arch, arch_args, vision_learner)
    check_channels(dls, n_in)
    if custom_head is None:
        check_targets(dls)
    n_out = n_out if n_out is not None else _outputs_for(dls)
    pretrained = pretrained or weights is not None
    model_args: dict[str, Any] = dict(  # noqa: C408  # reads like the call it is for
        n_out=n_out, cut=cut, n_in=n_in, custom_head=custom_head, concat_pool=concat_pool, pool=pool, lin_ftrs=lin_ftrs,
        ps=ps, first_bn=first_bn, bn_final=bn_final, lin_first=lin_first, y_range=y_range,
    )  # fmt: skip
    model = create_vision_model(arch, pretrained=pretrained, weights=weights, init=init, **model_args, **arch_args)
    if learner_args.get("splitter") is None:
        learner_args["splitter"] = resolve_splitter(arch)
    learn = Learner(dls, model, **learner_args)
    learn.recipe = transfer_recipe(arch, model_args, arch_args, model[0])
    return _started(learn, arch, normalize and n_in == 3, pretrained)


@delegates(Learner, keep=True)
@delegates(DynamicUnet, keep=True)
def unet_learner(
    dls: DataLoaders,
    arch: Arch,
    normalize: bool = True,
    n_out: int | None = None,
    pretrained: bool = True,
    weights: Weights = None,
    config: Mapping[str, Any] | None = None,
    *,
    cut: Cut = None,
    n_in: int = 3,
    **kwargs: Unpack[UnetLearnerArgs],
) -> Learner:
    """A `Learner` that predicts an image from an image, such as a class for each pixel: a `DynamicUnet` on a trained body.

    Args:
        dls: The data: `SegmentationDataLoaders`, or a `DataBlock` with a `MaskBlock` or an `ImageBlock` as target.
        arch: A function that builds a model, from torchvision (`resnet34`) or your own; or the name of a timm model.
        normalize: Normalise batches as the weights' images were, unless the loaders do already.
        n_out: Channels of the output; by default one for each code of the masks.
        pretrained: Start from trained weights, with the body frozen until `unfreeze`.
        weights: Which: a torchvision name or entry, a local file, or a state dict.
        config: More arguments for `DynamicUnet` as a dict, as older scripts give them.
        cut: Where the body ends: see `create_body`; by default as the architecture needs it.
        n_in: Channels of the images.
        kwargs: For `DynamicUnet`: `self_attention`, `blur`, `y_range`, …; for `Learner`: `loss_func`, `metrics`, `cbs`, …; for
            timm's architecture. `img_size=(height, width)` stands for a look at the first batch.

    Raises:
        UnknownName: If no such architecture is known; names the nearest.
        BadArgument: If nobody has an argument.
        Offline: If weights cannot be downloaded.
        BadValue: If the data does not say how many outputs it needs, its images have another number of channels, its targets
            are labels, or the body does not give feature maps for images of this size.
    """
    arch = find_arch(arch)
    learner_args, model_args = split_arguments({**kwargs, **(config or {})})
    arch_args = {name: value for name, value in model_args.items() if name not in names_of(DynamicUnet)}
    check_arch_args(arch, arch_args, unet_learner)
    check_channels(dls, n_in)
    check_map_targets(dls)
    n_out = n_out if n_out is not None else _outputs_for(dls)
    img_size = model_args.pop("img_size", None) or image_size(dls)
    pretrained = pretrained or weights is not None
    model = create_unet_model(arch, n_out, img_size, pretrained, weights, cut, n_in, **model_args)
    if learner_args.get("splitter") is None:
        learner_args["splitter"] = resolve_splitter(arch)
    learn = Learner(dls, model, **learner_args)
    learn.recipe = unet_recipe(
        arch, {**model_args, "n_out": n_out, "img_size": img_size, "cut": cut, "n_in": n_in}, model
    )
    return _started(learn, arch, normalize and n_in == 3, pretrained)


def image_size(dls: DataLoaders) -> tuple[int, int]:
    """(height, width) of the images of the first batch.

    Args:
        dls: The loaders.

    Raises:
        BadValue: If the batch does not begin with images.
    """
    batch = dls.one_batch()
    x = batch[0] if isinstance(batch, (tuple, list)) else batch
    if not isinstance(x, Tensor) or x.ndim != 4:
        raise BadValue(
            "the batches do not begin with images",
            got=describe(x),
            expected="a tensor [batch, channel, height, width]",
            fix="DataBlock(blocks=(ImageBlock, MaskBlock(codes)), ...)",
        )
    return x.shape[-2], x.shape[-1]


def check_map_targets(dls: DataLoaders) -> None:
    """Refuse labels: a U-Net makes a prediction for each pixel.

    Args:
        dls: The loaders.
    """
    if labels := {"category", "multicategory"} & set(_target_kinds(dls)):
        raise BadValue(
            "unet_learner makes a prediction for each pixel, and these targets are one for each image",
            got=f"targets of kind {', '.join(sorted(labels))}",
            expected="masks or images",
            fix="vision_learner(dls, arch), or MaskBlock(codes) for masks",
        )


def _started(learn: Learner, arch: Arch, normalize: bool, pretrained: bool) -> Learner:
    """The learner as a transfer starts: batches normalised as for the weights, the body frozen."""
    if normalize and pretrained:
        add_normalize(learn.dls, pretrained_stats(arch))
    if pretrained:
        learn.freeze()
    return learn


def split_arguments(kwargs: Mapping[str, Any]) -> tuple[LearnerArgs, dict[str, Any]]:
    """The arguments of `Learner` among those given, and the rest, which is for the architecture.

    Args:
        kwargs: The arguments by name.
    """
    known = LearnerArgs.__annotations__.keys()
    learner_args = {name: value for name, value in kwargs.items() if name in known}
    arch_args = {name: value for name, value in kwargs.items() if name not in known}
    return cast(LearnerArgs, learner_args), arch_args


cnn_learner = vision_learner


def _outputs_for(dls: DataLoaders) -> int:
    kinds = _target_kinds(dls)
    return outputs_for(
        dls, kinds, "pass n_out=" + (", or name the classes: MaskBlock(codes)" if "mask" in kinds else "")
    )


def declared_dataset(dls: DataLoaders) -> Datasets | None:
    """The training data set, if it declares its columns; loaders of other libraries do not.

    Args:
        dls: The loaders.
    """
    dataset = dls.train_ds if isinstance(dls, DataLoaders) and dls.loaders else None
    return dataset if isinstance(dataset, Datasets) else None


def _target_kinds(dls: DataLoaders) -> list[str | None]:
    dataset = declared_dataset(dls)
    return dataset.target_kinds if dataset is not None else []


def check_targets(dls: DataLoaders) -> None:
    """Refuse masks and boxes: the head of an image model makes one prediction for each image.

    Args:
        dls: The loaders.
    """
    if "mask" in _target_kinds(dls):
        raise BadValue(
            "vision_learner makes one prediction for each image, and these targets are masks",
            got="a class for each pixel (MaskBlock)",
            expected="labels or numbers",
            fix="unet_learner(dls, arch), which predicts a class for each pixel",
        )
    dataset = declared_dataset(dls)
    if dataset is not None and any(tl.element_type is TensorBBox for tl in dataset.tls[dataset.n_inp :]):
        raise BadValue(
            "vision_learner makes one prediction for each image, and these targets are boxes",
            got="any number of boxes in an image (BBoxBlock)",
            expected="labels, numbers or points",
            fix="detection_learner(dls, 'fasterrcnn_resnet50_fpn'), which finds objects",
        )


def check_channels(dls: DataLoaders, n_in: int) -> None:
    """Refuse images of another number of channels, unless code of the user might change it on the way to the model.

    Args:
        dls: The loaders.
        n_in: Channels that the model takes.
    """
    dataset, train = declared_dataset(dls), first(dls.loaders) if isinstance(dls, DataLoaders) else None
    if (
        dataset is None
        or not isinstance(train, TfmdDL)
        or is_foreign(train.after_item)
        or is_foreign(train.after_batch)
    ):
        return
    for kind in map(image_class, dataset.tls[0].tfms):
        if kind is MultiChannelImage:
            channels = dataset.tls[0][0].array.shape[2]
        else:
            channels = n_in if kind is None or kind.read_mode is None else Image.getmodebands(kind.read_mode)
        if kind is not None and channels != n_in:
            raise BadValue(
                "the images and the model differ in their number of channels",
                got=f"{kind.__name__}, of {channels} channel{'s' if channels > 1 else ''}, and n_in={n_in}",
                expected="n_in= the number of channels",
                fix=f"n_in={channels}"
                + (", or ImageBlock(PILImage) to read images in colour" if channels == 1 else ""),
            )


def resolve_splitter(arch: Arch) -> Splitter:
    """How the parameters of a model are grouped, from the first layers to the head.

    Args:
        arch: The architecture: a function that builds a model, or a timm name.
    """
    return default_split if isinstance(arch, str) else model_meta[arch]["split"]


def pretrained_stats(arch: Arch) -> Stats | None:
    """Mean and standard deviation of the images that the architecture's weights were trained on; None if unknown.

    Args:
        arch: The architecture: a function that builds a model, or a timm name.
    """
    return timm_stats(arch) if isinstance(arch, str) else model_meta[arch]["stats"]


def add_normalize(dls: DataLoaders, stats: Stats | None) -> None:
    """Normalise batches, unless one of the loaders does already.

    Args:
        dls: The loaders.
        stats: Mean and standard deviation; None adds nothing.
    """
    pipelines = [getattr(dl, "after_batch", None) for dl in getattr(dls, "loaders", [])]
    if stats is None or not pipelines or any(isinstance(t, Normalize) for p in pipelines for t in p or ()):
        return
    dls.add_tfms([Normalize.from_stats(*stats)], "after_batch")

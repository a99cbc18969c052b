"""Models that find objects: torchvision's detectors as models of a learner, and an FCOS on the body of any other model."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from layered.files import read_weights, state_dict_of
from layered.foundation import BadArgument, CannotTrain, key_of, lazy, map_tree, names_of, plain, refuse_unknown, seeded
from layered.integrations import TimmMaps, timm_maps
from layered.nn import ModelWithLoss
from layered.vision.models.backbones import (
    Arch,
    Weights,
    check_loaded,
    create_body,
    find_arch,
    is_torchvision,
    load_fitting,
    local_or_named,
    model_meta,
    torchvision_models,
    trained_weights,
)
from layered.vision.models.create import check_arch_args, timm_weights
from layered.vision.models.unet import Level, feature_maps, find_levels
from layered.vision.points import from_pixels, in_pixels
from layered.vision.targets import has_area

detection = lazy("torchvision.models.detection")
ops = lazy("torchvision.ops")

STRIDES = (8, 16, 32)  # of the feature maps in which an FCOS on any body looks for objects
CHANNELS = 128
SEED = key_of("losses of a detector")  # which draw the boxes that they compare


class Detector(ModelWithLoss):
    """A detector of torchvision as the model of a learner: images, boxes and labels in the form of the library's batches.

    Training gives {"loss", "losses"}: the sum of the detector's losses, and each by name. Evaluation gives {"boxes", "labels",
    "scores"}, best first, padded like targets: boxes float32 [batch, box, 4] from -1 to 1, labels int64 and scores float32
    [batch, box]. With targets it adds the loss too, as the mean of the losses of the images, [batch] each by name: they do
    not depend on the batch size, and draw nothing from the global random generator.

    Boxes without an area are padding. Class 0 is the background, and boxes of that class are left out.

    Args:
        detector: Called as `detector(images, targets)`, such as `torchvision.models.detection.FCOS(...)`.
        fixed_norms: The batch norms of its body keep their statistics, since those of a few images are too uncertain.
    """

    def __init__(self, detector: nn.Module, fixed_norms: bool = False) -> None:
        super().__init__()
        self.detector, self.fixed_norms = detector, fixed_norms

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all layers, but for norms that are fixed.

        Args:
            mode: True for training, False for evaluation.
        """
        super().train(mode)
        for module in self.detector.get_submodule("backbone").modules() if self.fixed_norms else ():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, images: Tensor, boxes: Tensor | None = None, labels: Tensor | None = None) -> dict[str, Any]:
        images = plain(images)
        if boxes is None and self.training:
            raise CannotTrain(
                "a detector learns from boxes, and the batch has none",
                got="images alone",
                fix="DataBlock((ImageBlock, BBoxBlock, BBoxLblBlock), get_y=[boxes_of, labels_of], n_inp=1)",
            )
        targets = [] if boxes is None else _as_dicts(images, boxes, labels)
        if self.training:
            losses = self.detector(list(images), targets)
            return {"loss": sum(losses.values()), "losses": losses}
        known = _KnownMaps(self.detector.get_submodule("backbone"))
        found = _with_backbone(self.detector, known)(list(images))
        return self._losses(images, targets, known.maps) | _padded(found, images)

    def _losses(self, images: Tensor, targets: Sequence[dict[str, Tensor]], maps: Any) -> dict[str, Any]:
        """The losses of each image, of feature maps that are known."""
        if not targets:
            return {}
        judge = _with_backbone(self.detector, known := _KnownMaps(nn.Identity()))
        for name, module in judge.named_modules():
            # Norms and dropout stay as they are; what is torchvision's then computes losses, and no detections.
            if not type(module).__module__.startswith("torch.nn.") and name != "transform":
                module.training = True
        each: list[dict[str, Tensor]] = []
        for i, target in enumerate(targets):
            known.maps = map_tree(partial(_row, i), maps)
            with seeded(SEED):
                each.append(judge([images[i]], [target]))
        losses = {name: torch.stack([one[name] for one in each]) for name in each[0]}
        return {"loss": sum(losses.values()).mean(), "losses": losses}  # type: ignore[union-attr]  # at least one part


def _row(i: int, x: Tensor) -> Tensor:
    return x[i : i + 1]


class _KnownMaps(nn.Module):
    """Feature maps: those that it was given, or else those of a body, which runs once."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.maps: Any = None

    def forward(self, images: Tensor) -> Any:
        if self.maps is None:
            self.maps = self.body(images)
        return self.maps


def _with_backbone(detector: nn.Module, backbone: nn.Module) -> nn.Module:
    """A detector with the same layers and another backbone. Modes set on it leave the original as it is."""

    def twin(module: nn.Module, **replaced: nn.Module) -> nn.Module:
        made = copy.copy(module)
        made._modules = {
            name: replaced.get(name) or (None if child is None else twin(child))
            for name, child in module._modules.items()
        }
        return made

    return twin(detector, backbone=backbone)


def _as_dicts(images: Tensor, boxes: Tensor, labels: Tensor | None) -> list[dict[str, Tensor]]:
    """The targets of each image as torchvision's detectors take them, without padding: boxes in pixels, and labels from 1."""
    size = images.shape[-1], images.shape[-2]
    boxes = plain(boxes).float()
    labels = boxes.new_ones(boxes.shape[:2], dtype=torch.int64) if labels is None else plain(labels)
    pixels = in_pixels(boxes, size).reshape(boxes.shape)
    kept = has_area(boxes) & (labels > 0)
    return [{"boxes": b[k], "labels": n[k]} for b, n, k in zip(pixels, labels, kept, strict=True)]


def _padded(found: Sequence[Mapping[str, Tensor]], images: Tensor) -> dict[str, Tensor]:
    """Detections of each image as a batch: [batch, box, ...]."""
    size = images.shape[-1], images.shape[-2]
    longest = max(len(one["scores"]) for one in found)
    shapes = {"boxes": (longest, 4), "labels": (longest,), "scores": (longest,)}
    padded = {k: found[0][k].new_zeros(len(found), *shape) for k, shape in shapes.items()}
    for i, one in enumerate(found):
        count = len(one["scores"])
        padded["boxes"][i, :count] = from_pixels(one["boxes"].reshape(-1, 2), size).reshape(-1, 4).clamp(-1, 1)
        padded["labels"][i, :count], padded["scores"][i, :count] = one["labels"], one["scores"]
    return padded


def create_detector(
    arch: Arch,
    n_classes: int,
    pretrained: bool = True,
    weights: Weights = None,
    stats: tuple[Sequence[float], Sequence[float]] | None = None,
    levels: Sequence[Level] | None = None,
    fixed_norms: bool | None = None,
    **arch_args: Any,
) -> Detector:
    """A model that finds objects.

    The detector sees images in the size of its batches: give `min_size=` and `max_size=` to let torchvision resize them.

    Args:
        arch: A detector of torchvision, as a function (`fasterrcnn_resnet50_fpn`) or its name; a function of your own, called
            as `arch(num_classes=n_classes)`; or any architecture for `vision_learner` ("resnet18", a timm name), which becomes
            the body of an `FCOS` with a feature pyramid.
        n_classes: The number of classes, with 0, the background.
        pretrained: Whether it has trained weights: a detector those of COCO but for its classes, a body its own.
        weights: Which: a torchvision name or entry, a local file, or a state dict. That of a detector or of its body.
        stats: Mean and standard deviation that images are normalised with; by default those of the detector.
        levels: The feature maps of a body, as `find_levels` finds them; None runs it.
        fixed_norms: As for `Detector`; by default where weights are trained.
        arch_args: Arguments of torchvision's detector: `min_size`, `box_score_thresh`, …; of timm's architecture.

    Raises:
        UnknownName: If no such architecture is known; names the nearest.
        BadArgument: If the detector needs targets other than boxes, or has no such argument.
        Offline: If weights cannot be downloaded.
        CannotRestore: If local weights do not fit the body.

    Examples:
        >>> model = create_detector("resnet18", 3, pretrained=False).eval()
        >>> sorted(model(torch.zeros(1, 3, 64, 96)))
        ['boxes', 'labels', 'scores']
    """
    arch = find_detector(arch)
    if isinstance(arch, str) or (is_torchvision(arch) and not is_torchvision_detector(arch)):
        model = _fcos(_map_body(arch, pretrained, weights, arch_args), n_classes, levels)
        state = None
        trained = pretrained or weights is not None
    else:
        model = _build_detector(arch, n_classes, arch_args)
        state = _find_weights(arch, pretrained, weights)
        trained = state is not None
    if state is not None:
        _load(model, state, warns=weights is not None)
    if stats is not None:
        model.transform.image_mean, model.transform.image_std = (list(part) for part in stats)
    if not {"min_size", "max_size", "fixed_size"} & arch_args.keys():
        model.transform.resize = _as_given
    return Detector(model, trained if fixed_norms is None else fixed_norms)


def _find_weights(arch: Any, pretrained: bool, weights: Weights) -> Mapping[str, Tensor] | None:
    """The weights of a detector or its body; None to begin with random ones."""
    local, named = local_or_named(weights)
    if local is not None:
        return state_dict_of(local if isinstance(local, Mapping) else read_weights(local))
    if named is None and not (pretrained and is_torchvision_detector(arch)):
        return None
    return trained_weights(arch, named)


def _as_given(image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
    """In place of torchvision's resizing: the loaders have done it."""
    return image, target


def find_detector(arch: Any) -> Any:
    """Look up an architecture as `find_arch` does, detectors of torchvision included.

    Args:
        arch: A function, or a name.
    """
    known = detector_names()
    if isinstance(arch, str) and arch in known:
        arch = torchvision_models.get_model_builder(arch)
    found = find_arch(arch)
    if is_torchvision_detector(found) and found.__name__ not in known:
        raise BadArgument(
            f"{found.__name__} learns from more than boxes",
            expected=f"one of {', '.join(known)}",
            fix=f"detection_learner(dls, {known[0]!r})",
        )
    return found


def detector_names() -> list[str]:
    """Names of torchvision's detectors of boxes."""
    names = torchvision_models.list_models(module=detection)
    return [name for name in names if not name.startswith(("maskrcnn", "keypointrcnn"))]


def is_torchvision_detector(arch: Any) -> bool:
    """Whether an architecture is a function of torchvision that builds a detector.

    Args:
        arch: Anything.
    """
    return is_torchvision(arch) and arch.__module__.startswith(detection.__name__)


def _build_detector(arch: Any, n_classes: int, arch_args: dict[str, Any]) -> Any:
    if not is_torchvision_detector(arch):
        return arch(num_classes=n_classes, **arch_args)
    kinds = (detection.FasterRCNN, detection.RetinaNet, detection.FCOS, detection.ssd.SSD)
    known = set[str]().union(*(names_of(kind.__init__) for kind in kinds)) - {"self", "backbone", "num_classes"}
    refuse_unknown(arch_args, known | {"trainable_backbone_layers", "fixed_size"}, arch.__name__)
    return arch(weights=None, weights_backbone=None, num_classes=n_classes, **arch_args)


def _load(model: nn.Module, state: Mapping[str, Tensor], warns: bool) -> None:
    """Load weights of a detector of any classes, or of its body alone."""
    state = {k.removeprefix("detector."): v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    needed = model.state_dict()

    def placed(prefix: str) -> dict[str, Tensor]:
        return {prefix + k: v for k, v in state.items()}

    state = max(map(placed, ("", "backbone.", "backbone.body.")), key=lambda state: len(state.keys() & needed.keys()))
    unfit = [name for name in load_fitting(model, state) if not name.endswith("num_batches_tracked")]
    body = model.get_submodule("backbone")
    if not any(k.startswith("backbone.fpn") for k in state):
        body = dict(body.named_children()).get("body", body)
    check_loaded(model, body, unfit, state if warns else {})


def loss_names(detector: nn.Module) -> tuple[str, ...]:
    """The names of the losses of a detector of torchvision; none for others.

    Args:
        detector: The detector.
    """
    if isinstance(detector, detection.FasterRCNN):
        return "loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"
    if isinstance(detector, detection.FCOS):
        return "classification", "bbox_regression", "bbox_ctrness"
    is_dense = isinstance(detector, (detection.RetinaNet, detection.ssd.SSD))
    return ("classification", "bbox_regression") if is_dense else ()


class PyramidBody(nn.Module):
    """The body of a detector: feature maps at several strides with the same number of channels, by a feature pyramid.

    Args:
        body: A body as for `DynamicUnet`.
        levels: The feature maps to take: see `find_levels`.

    Source: Lin et al. 2017, arXiv:1612.03144
    """

    def __init__(self, body: nn.Module, levels: Sequence[Level]) -> None:
        super().__init__()
        self.body, self.levels = body, list(levels)
        self.places = {i for i, _, _ in levels}
        self.fpn = ops.FeaturePyramidNetwork([channels for _, channels, _ in levels], CHANNELS)
        self.out_channels = CHANNELS

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        found = [y for i, y in enumerate(feature_maps(self.body, images)) if i in self.places]
        return self.fpn(OrderedDict((str(i), y) for i, y in enumerate(found)))  # type: ignore[no-any-return]


def _map_body(arch: Arch, pretrained: bool, weights: Weights, arch_args: dict[str, Any]) -> nn.Module:
    check_arch_args(arch, arch_args, create_detector)
    if isinstance(arch, str):
        return timm_maps(arch, 3, pretrained, timm_weights(arch, weights), **arch_args)
    return create_body(arch, 3, pretrained, model_meta[arch]["cut"], weights=weights)


def _fcos(body: nn.Module, n_classes: int, levels: Sequence[Level] | None) -> Any:
    found = levels or [level for level in find_levels(body, (256, 256)) if level[2] in STRIDES]
    if isinstance(body, TimmMaps) and not found:
        found = body.levels[-3:]
    anchors = detection.anchor_utils.AnchorGenerator(tuple((stride,) for _, _, stride in found), ((1.0,),) * len(found))
    model = detection.FCOS(PyramidBody(body, found), n_classes, anchor_generator=anchors)
    # The sizes of boxes come out of a ReLU. From 0 on, as torchvision begins, half of them would have no gradient.
    nn.init.constant_(model.head.regression_head.bbox_reg.bias, 2.0)
    return model

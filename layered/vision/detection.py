"""`detection_learner`: a model that finds objects, and the learner that trains it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from torch import Tensor, nn

from layered.data import DataLoaders, Normalize, TfmdDL
from layered.foundation import BadValue, L, OutOfRange, Recorded, delegates, losses
from layered.metrics import LossPart
from layered.optim import params
from layered.training import Learner, LearnerArgs
from layered.vision.learner import declared_dataset, pretrained_stats, split_arguments
from layered.vision.models.backbones import Arch, Stats, Weights, is_torchvision
from layered.vision.models.detectors import (
    create_detector,
    find_detector,
    is_torchvision_detector,
    loss_names,
)
from layered.vision.point_transforms import BBoxCategorize
from layered.vision.points import TensorBBox
from layered.vision.recipes import detector_recipe

Found = Mapping[str, Tensor]  # boxes, labels and scores of a batch


class DetectorArgs(LearnerArgs, total=False):
    """What `detection_learner` takes by keyword: `Learner`'s arguments, and the usual ones of torchvision's detectors."""

    min_size: int
    max_size: int
    box_score_thresh: float
    box_nms_thresh: float
    box_detections_per_img: int
    rpn_anchor_generator: nn.Module
    anchor_generator: nn.Module
    score_thresh: float
    nms_thresh: float
    detections_per_img: int


@losses.register()
class DetectionLoss(Recorded):
    """The loss that a `Detector` computes itself, and how its predictions are read.

    Args:
        min_score: Objects with a lower score are left out of decisions: what `predict` and `show_results` show.
        reduction: "mean", or "none" for the loss of each image, which evaluation gives.

    Raises:
        OutOfRange: `min_score` is not from 0 to 1.
    """

    def __init__(self, min_score: float = 0.5, reduction: str = "mean") -> None:
        if not 0 <= min_score <= 1:
            raise OutOfRange("min_score is a probability", got=min_score, expected="a number from 0 to 1")
        self.min_score, self.reduction = min_score, reduction

    def __call__(self, pred: Mapping[str, Any], *targets: Tensor) -> Tensor:
        each: Tensor = sum(pred["losses"].values()) if self.reduction == "none" else pred["loss"]
        return each

    def activation(self, pred: Found) -> Found:
        """All objects that were found: boxes, labels and scores.

        Args:
            pred: The model's output.
        """
        return {name: pred[name] for name in ("boxes", "labels", "scores")}

    def decodes(self, pred: Found) -> tuple[Tensor, Tensor]:
        """The boxes and labels with a score of at least `min_score`, in the form of the targets; the others become padding.

        Args:
            pred: What `activation` returned.
        """
        kept = pred["scores"] >= self.min_score
        return pred["boxes"] * kept[..., None], pred["labels"] * kept


@delegates(Learner, keep=True)
def detection_learner(
    dls: DataLoaders,
    arch: Arch,
    normalize: bool = True,
    pretrained: bool = True,
    weights: Weights = None,
    *,
    min_score: float = 0.5,
    **kwargs: Unpack[DetectorArgs],
) -> Learner:
    """A `Learner` that finds objects: a detector of torchvision, or one on any trained body, with as many classes as the data.

        learn = detection_learner(dls, "fasterrcnn_resnet50_fpn", metrics=MeanAveragePrecision())
        learn.fine_tune(10)

    Each part of the loss has a column in the table. The detector sees images in the size of their batches.

    Args:
        dls: The data: `DataBlock((ImageBlock, BBoxBlock, BBoxLblBlock), get_y=[boxes_of, labels_of], n_inp=1, ...)`.
        arch: A detector of torchvision, as a function (`fasterrcnn_resnet50_fpn`) or its name; a function of your own, called
            as `arch(num_classes=...)`, which is trained as a whole from what it gives, unless there are `weights`; or any
            architecture for `vision_learner` ("resnet18", a timm name), which becomes the body of an `FCOS` with a feature
            pyramid.
        normalize: Normalise images as those of the weights were, unless the loaders do already.
        pretrained: Start from trained weights, with the body frozen until `unfreeze`: a detector has those of COCO but for
            its classes, a body its own. Its batch norms are fixed for good, since batches are small.
        weights: Which: a torchvision name or entry, a local file, or a state dict; of a detector of any classes, or its body.
        min_score: Decisions leave out objects with a lower score.
        kwargs: For `Learner`: `metrics`, `cbs`, …; for the detector: `min_size`, `box_score_thresh`, …; for timm's architecture.

    Raises:
        UnknownName: If no such architecture is known; names the nearest.
        BadArgument: If nobody has an argument.
        Offline: If weights cannot be downloaded.
        BadValue: If the targets are not boxes with labels, or their labels do not begin with the background.
        CannotRestore: If local weights do not fit the body.
    """
    arch = find_detector(arch)
    learner_args, arch_args = split_arguments(kwargs)
    n_classes = count_classes(dls)
    stats: Stats | None = None
    if not normalize or is_normalized(dls):
        stats = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    elif isinstance(arch, str) or (is_torchvision(arch) and not is_torchvision_detector(arch)):
        stats = pretrained_stats(arch)
    model = create_detector(arch, n_classes, pretrained, weights, stats, **arch_args)
    parts = [LossPart(name) for name in loss_names(model.detector)]
    learner_args["metrics"] = [parts, learner_args.get("metrics")]
    if learner_args.get("splitter") is None:
        learner_args["splitter"] = detector_split
    if learner_args.get("loss_func") is None:
        learner_args["loss_func"] = DetectionLoss(min_score)
    learn = Learner(dls, model, **learner_args)
    learn.recipe = detector_recipe(arch, {"n_classes": n_classes, "stats": stats}, arch_args, model)
    is_own = not isinstance(arch, str) and not is_torchvision(arch)
    if weights is not None or (pretrained and not is_own):
        learn.freeze()
    return learn


def detector_split(model: Any) -> L:
    """Two groups of parameters: the body, and what finds objects in its feature maps.

    Args:
        model: The model.
    """
    backbone = model.detector.get_submodule("backbone")
    body = params(dict(backbone.named_children()).get("body", backbone))
    known = {id(p) for p in body}
    return L([body, [p for p in params(model) if id(p) not in known]], use_list=True)


def count_classes(dls: DataLoaders) -> int:
    """How many classes a detector for this data has, with the background.

    Args:
        dls: The loaders.

    Raises:
        BadValue: If the targets are not boxes with labels, or their labels do not begin with the background.
    """
    dataset = declared_dataset(dls)
    targets = [] if dataset is None else dataset.tls[dataset.n_inp :]
    labels = [step for tl in targets[1:] for step in tl.tfms if isinstance(step, BBoxCategorize)]
    if not 1 <= len(targets) <= 2 or targets[0].element_type is not TensorBBox or len(labels) != len(targets) - 1:
        raise BadValue(
            "detection_learner learns from boxes and their labels",
            got="targets " + (", ".join(repr(tl.tfms) for tl in targets) or "that are not declared"),
            expected="BBoxBlock, and BBoxLblBlock if there are several classes",
            fix="DataBlock((ImageBlock, BBoxBlock, BBoxLblBlock), get_y=[boxes_of, labels_of], n_inp=1)",
        )
    if not labels:
        return 2
    if not labels[0].add_na:
        raise BadValue(
            "class 0 of a detector is the background, and here it is a label",
            got=f"the classes {', '.join(map(str, list(labels[0].fitted_vocab)[:5]))}",
            expected="'#na#' as the first class",
            fix="BBoxLblBlock(add_na=True), the default",
        )
    return len(labels[0].fitted_vocab)


def is_normalized(dls: DataLoaders) -> bool:
    """Whether the loaders normalise their batches.

    Args:
        dls: The loaders.
    """
    pipelines: list[Any] = [dl.after_batch for dl in dls.loaders if isinstance(dl, TfmdDL)]
    return any(isinstance(step, Normalize) for pipeline in pipelines for step in pipeline)

"""Predictions: one item, many items, test-time augmentation."""

from typing import TYPE_CHECKING

from layered.foundation.faces import star as _star
from layered.inference.gathering import GatherPredsCallback as GatherPredsCallback
from layered.inference.predict import FetchPredsCallback as FetchPredsCallback

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.inference.abstaining import (
    confidence_of as confidence_of,
    is_unsure as is_unsure,
    least_confidence as least_confidence,
)
from layered.inference.calibrated import calibration_of as calibration_of, set_calibration as set_calibration
from layered.inference.calibrating import calibrate as calibrate
from layered.inference.embed import embed as embed
from layered.inference.items import (
    batch_at as batch_at,
    items_at as items_at,
    steady_loader as steady_loader,
    take_rows as take_rows,
)
from layered.inference.predict import (
    activation_of as activation_of,
    decoder_of as decoder_of,
    evaluating as evaluating,
    first_row as first_row,
    get_preds as get_preds,
    meaning_for as meaning_for,
    model_device as model_device,
    predict as predict,
    show_results as show_results,
    stream_preds as stream_preds,
)
from layered.inference.prediction_sets import predict_set as predict_set, predict_sets as predict_sets
from layered.inference.review import review as review
from layered.inference.tta import tta as tta

"""What a model has learned and how training is going: interpretation, saliency, diagnosis, profiles."""

from typing import TYPE_CHECKING

from layered.foundation import Finding as Finding
from layered.foundation.faces import star as _star
from layered.insight.confusion import (
    ClassificationInterpretation as ClassificationInterpretation,
    SegmentationInterpretation as SegmentationInterpretation,
)
from layered.insight.doctor import Diagnosis as Diagnosis
from layered.insight.interpret import (
    Interpretation as Interpretation,
    RegressionInterpretation as RegressionInterpretation,
)
from layered.insight.neighbours import (
    Duplicate as Duplicate,
    duplicates as duplicates,
    most_similar as most_similar,
)
from layered.insight.saliency import grad_cam as grad_cam, show_grad_cam as show_grad_cam

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.insight.doctor import doctor as doctor
from layered.insight.profile import profile as profile

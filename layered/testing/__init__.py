"""Contracts to call in the tests of your own transforms and callbacks, and learners that train in milliseconds."""

from typing import TYPE_CHECKING

from layered.foundation import star as _star
from layered.testing.contracts import (
    check_callback as check_callback,
    check_callbacks_together as check_callbacks_together,
    check_resuming as check_resuming,
    check_transform as check_transform,
)
from layered.testing.tiny import RegModel as RegModel, synth_dls as synth_dls, synth_learner as synth_learner

if not TYPE_CHECKING:
    __all__ = _star(globals())

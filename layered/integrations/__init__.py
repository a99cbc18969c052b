"""Adapters to other libraries."""

from typing import TYPE_CHECKING

from layered.foundation.faces import star as _star

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.integrations.timm_models import (
    is_timm_model as is_timm_model,
    timm_body as timm_body,
    timm_names as timm_names,
    timm_stats as timm_stats,
)

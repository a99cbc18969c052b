"""Adapters to other libraries."""

from typing import TYPE_CHECKING

from layered.foundation.faces import star as _star

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.integrations.foreign import adopt_model as adopt_model
from layered.integrations.lightning_data import adopt_data as adopt_data
from layered.integrations.lora import MARK as MARK, add_lora as add_lora, merge_lora as merge_lora
from layered.integrations.timm_models import (
    TimmBody as TimmBody,
    TimmMaps as TimmMaps,
    is_timm_model as is_timm_model,
    timm_body as timm_body,
    timm_groups as timm_groups,
    timm_keywords as timm_keywords,
    timm_maps as timm_maps,
    timm_names as timm_names,
    timm_stats as timm_stats,
)
from layered.integrations.transformers_models import (
    Transformer as Transformer,
    build_transformer as build_transformer,
    described_config as described_config,
    embedding_rows as embedding_rows,
    hidden_size as hidden_size,
    hub_folder as hub_folder,
    open_transformer as open_transformer,
    position_limit as position_limit,
    transformer_config as transformer_config,
    transformer_groups as transformer_groups,
)

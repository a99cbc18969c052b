"""Adapters of LoRA in a model of transformers, through peft: small trained matrices beside frozen weights.

Source: Hu et al. 2021, arXiv:2106.09685
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from layered.foundation import BadValue, require, whole_number

ALL = "all-linear"
MARK = ".lora_"  # in the names of their weights
_WHY = "LoRA"


def add_lora(
    module: nn.Module, r: int, alpha: float, target_modules: str | Sequence[str] = ALL, dropout: float = 0.0
) -> None:
    """Put adapters beside the linear layers of a model, and freeze everything else in it.

    Args:
        module: A model of transformers, which is changed.
        r: The rank of the matrices.
        alpha: They are scaled by alpha / r.
        target_modules: The last parts of the names of the layers, such as ["query", "value"]; "all-linear" for all but that
            which gives the scores of words.
        dropout: Dropout of what an adapter reads.

    Raises:
        BadValue: A setting makes no sense, or the model has no such layers.
    """
    names = target_modules if target_modules == ALL else list(target_modules)
    if (
        not whole_number(r)
        or r < 1
        or isinstance(names, str) != (names == ALL)
        or not all(isinstance(o, str) for o in names)
    ):
        raise BadValue(
            "invalid settings of LoRA",
            got=f"r={r!r}, target_modules={target_modules!r}",
            expected=f"a rank from 1, and names of layers or {ALL!r}",
        )
    peft = require("peft", extra="hf", why=_WHY)
    turned = any(type(part).__name__ == "Conv1D" for part in module.modules())  # GPT-2 keeps its weights transposed
    config = peft.LoraConfig(r=r, lora_alpha=alpha, target_modules=names, lora_dropout=dropout, fan_in_fan_out=turned)
    try:
        peft.inject_adapter_in_model(config, module)
    except ValueError as error:
        layers = sorted(
            {name.rpartition(".")[2] for name, part in module.named_modules() if isinstance(part, nn.Linear)}
        )
        raise BadValue(
            "LoRA finds no such layers in this model",
            got=f"target_modules={target_modules!r}",
            expected=", ".join(layers) or f"{ALL!r}",
        ) from error


def merge_lora(module: nn.Module) -> None:
    """Add the adapters to the weights that they stand beside, and take them off.

    Args:
        module: A model with adapters.
    """
    tuners: Any = require("peft.tuners.tuners_utils", extra="hf", why=_WHY)
    for name, part in list(module.named_modules()):
        if isinstance(part, tuners.BaseTunerLayer):
            part.merge(safe_merge=True)
            module.set_submodule(name, part.get_base_layer())
    vars(module).pop("peft_config", None)
    module.requires_grad_(True)

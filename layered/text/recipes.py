"""Models of texts as data for an export: which architecture, which arguments."""

from __future__ import annotations

from typing import Any

from torch import nn

from layered.foundation import builders, modules, names_of, refuse_unknown
from layered.integrations import add_lora, build_transformer, transformer_config
from layered.text.models.heads import SequentialRNN, find_meta, get_language_model, get_text_classifier
from layered.text.models.transformers import TransformerLM, transformer_classifier

CLASSIFIER_ARGS = names_of(get_text_classifier)
TRANSFORMER_ARGS = names_of(transformer_classifier) - {"module"}
LORA_ARGS = names_of(add_lora) - {"module"}


def text_recipe(builder: str, arch: Any, args: dict[str, Any]) -> dict[str, Any] | None:
    """A model as data for an export; None if its architecture has no registered name.

    Args:
        builder: "text.language_model" or "text.classifier".
        arch: The class of its encoder.
        args: The other arguments of `get_language_model` or `get_text_classifier`.
    """
    name = modules.name_of(arch)
    plain = {k: list(v) if isinstance(v, (list, tuple)) else v for k, v in args.items()}
    return None if name is None else {"builder": builder, "args": {"arch": name, **plain}}


def _find(arch: str) -> Any:
    """The architecture that a file names."""
    found = modules.get(arch)
    find_meta(found)
    return found


@builders.register("text.language_model")
def build_language_model(
    arch: str, vocab_sz: int, config: dict[str, Any] | None = None, drop_mult: float = 1.0
) -> SequentialRNN:
    """The untrained language model of a recipe.

    Args:
        arch: The registered name of the encoder's class.
        vocab_sz: Number of words.
        config: Settings that differ from the usual ones.
        drop_mult: Multiplies all dropouts.
    """
    return get_language_model(_find(arch), vocab_sz, config, drop_mult)


@builders.register("text.classifier")
def build_text_classifier(arch: str, **args: Any) -> SequentialRNN:
    """The untrained classifier of a recipe.

    Args:
        arch: The registered name of the encoder's class.
        args: The other arguments of `get_text_classifier`.
    """
    refuse_unknown(args, CLASSIFIER_ARGS, "the recipe of a classifier of texts")
    return get_text_classifier(_find(arch), **args)


@builders.register("text.transformer_classifier")
def build_transformer_classifier(
    config: dict[str, Any], lora: dict[str, Any] | None = None, **args: Any
) -> nn.Sequential:
    """The untrained classifier of a recipe, on a model of transformers.

    Args:
        config: The model's configuration, as in a config.json.
        lora: The settings of its adapters: see `add_lora`; None for none.
        args: The other arguments of `transformer_classifier`.
    """
    refuse_unknown(args, TRANSFORMER_ARGS, "the recipe of a classifier of texts")
    return transformer_classifier(_transformer(config, lora, for_lm=False), **args)


@builders.register("text.transformer_lm")
def build_transformer_lm(config: dict[str, Any], lora: dict[str, Any] | None = None) -> TransformerLM:
    """The untrained language model of a recipe, of transformers.

    Args:
        config: The model's configuration, as in a config.json.
        lora: The settings of its adapters: see `add_lora`; None for none.
    """
    return TransformerLM(_transformer(config, lora, for_lm=True))


def _transformer(config: dict[str, Any], lora: dict[str, Any] | None, for_lm: bool) -> nn.Module:
    module = build_transformer(transformer_config(config), for_lm)
    if lora is not None:
        refuse_unknown(lora, LORA_ARGS, "the recipe of adapters")
        add_lora(module, **lora)
    return module

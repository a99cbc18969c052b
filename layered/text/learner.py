"""The learners for texts: language models that go on with a text, and classifiers that may start from their encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, Unpack

from layered.data import as_loaders, outputs_for
from layered.files import joined
from layered.foundation import (
    BadArgument,
    BadValue,
    Path,
    StrPath,
    checked,
    delegates,
)
from layered.nn import CrossEntropyLossFlat
from layered.text.column import TextColumn
from layered.text.hf_models import Built, hf_classifier, hf_language_model, is_source, refuse_recurrent
from layered.text.models.heads import (
    checked_config,
    find_meta,
    get_language_model,
    get_text_classifier,
)
from layered.text.models.transformers import transformer_clas_split, transformer_lm_split
from layered.text.pretrained import PRETRAINED_FNAMES, given_files, pretrained_files
from layered.text.recipes import text_recipe
from layered.text.text_learner import LMLearner, TextLearner
from layered.training import Learner, LearnerArgs

T = TypeVar("T", bound=TextLearner)


def _weights_folder(dls: Any, learner_args: Mapping[str, Any]) -> Path:
    """Where a learner of these arguments keeps its weights."""
    return joined(learner_args.get("path") or as_loaders(dls).path, learner_args.get("model_dir", "models"))


def _published(
    caller: str, arch: Any, column: TextColumn, config: Mapping[str, Any], backwards: bool
) -> tuple[Path, Path]:
    """The files of published weights and their vocabulary, once it is clear that they fit."""
    meta = find_meta(arch)
    if backwards != column.backwards:
        raise BadValue(
            "texts and trained weights are not read in the same direction",
            got=f"backwards={backwards} here, and backwards={column.backwards} in the loaders",
            fix=f"{caller}(…, backwards={column.backwards})",
        )
    sizes = {name: config[name] for name in ("emb_sz", "n_hid", "n_layers", "bidir") if name in config}
    usual = {name: meta["config_lm"][name] for name in sizes}
    if sizes != usual:
        raise BadValue(
            "the published weights are those of the usual sizes",
            got=f"config with {sizes}",
            expected=usual,
            fix=f"pretrained=False trains from scratch; {PRETRAINED_FNAMES}",
        )
    return pretrained_files(meta["url_bwd" if backwards else "url"], caller)


def _with_padding(config: Mapping[str, Any] | None, column: TextColumn) -> dict[str, Any]:
    """The settings, in which the token whose vector is not trained is that of padding, where the vocabulary has one."""
    return {"pad_token": column.pad, **checked_config(config)}


def _on_transformer(kind: type[T], dls: Any, built: Built, splitter: Any, learner_args: LearnerArgs) -> T:
    """A learner of a model of Hugging Face: norm layers of frozen blocks stay as they are, so that a frozen body costs little."""
    learner_args.setdefault("splitter", splitter)
    learner_args.setdefault("train_bn", False)
    learner_args.setdefault("moms", (0.95, 0.85, 0.95))
    learn = kind(dls, built.model, **learner_args)
    learn.recipe = built.recipe
    return learn


@checked
@delegates(Learner)
def language_model_learner(
    dls: Any,
    arch: Any,
    config: Mapping[str, Any] | None = None,
    drop_mult: float = 1.0,
    backwards: bool = False,
    pretrained: bool = True,
    pretrained_fnames: Sequence[StrPath] | None = None,
    *,
    alpha: float = 2.0,
    beta: float = 1.0,
    **learner_args: Unpack[LearnerArgs],
) -> LMLearner:
    """A `TextLearner` of a language model, which predicts the next word at each place.

    Args:
        dls: Loaders of a language model: `TextDataLoaders.from_folder(path, is_lm=True)`.
        arch: `AWD_LSTM`; or a decoder of Hugging Face: its folder, its name on the hub, or the model itself.
        config: Settings that differ from `awd_lstm_lm_config`, or from the config.json of a decoder.
        drop_mult: Multiplies all dropouts of an AWD-LSTM.
        backwards: Take weights that were trained on texts from their end to their start.
        pretrained: Start from trained weights: those of a decoder, all of them trained; or those of Wikitext-103, with all but
            the last group frozen.
        pretrained_fnames: Start from these files: weights and their vocabulary, in `path/model_dir` or anywhere.
        alpha: Weight in the loss of the mean square of the encoder's outputs.
        beta: Weight of the mean square of their change.
        learner_args: Arguments of `Learner`.

    Raises:
        Offline: The weights cannot be downloaded; nothing has been built.
        UnknownName: The architecture is not known.
        BadArgument: There is no such argument or setting.
        BadValue: The loaders have no vocabulary, or weights and vocabulary do not belong together.
    """
    column = TextColumn.of_loaders(dls)
    if column.targets:
        raise BadValue(
            "a language model predicts the next words, and these loaders have other targets",
            got=f"targets of kind {', '.join(map(str, column.targets))}",
            fix="TextDataLoaders.from_folder(path, is_lm=True), or TextBlock(is_lm=True) alone in a DataBlock",
        )
    learner_args.setdefault("loss_func", CrossEntropyLossFlat())
    if is_source(arch):
        refuse_recurrent(
            {
                "drop_mult": (drop_mult, 1.0), "backwards": (backwards, False), "alpha": (alpha, 2.0), "beta": (beta, 1.0),
                "pretrained_fnames": (pretrained_fnames, None),
            }
        )  # fmt: skip
        return _on_transformer(
            LMLearner, dls, hf_language_model(dls, arch, pretrained, config), transformer_lm_split, learner_args
        )
    settings, files = _with_padding(config, column), None
    if pretrained_fnames is not None:
        files = given_files(_weights_folder(dls, learner_args), pretrained_fnames)
    elif pretrained:
        files = _published("language_model_learner", arch, column, settings, backwards)
    args: dict[str, Any] = {
        "vocab_sz": len(column.vocab),
        "config": settings,
        "drop_mult": drop_mult,
    }
    learner_args.setdefault("splitter", find_meta(arch)["split_lm"])
    learn = LMLearner(dls, get_language_model(arch, **args), alpha, beta, **learner_args)
    learn.recipe = text_recipe("text.language_model", arch, args)
    return learn if files is None else learn.load_pretrained(*files)


@checked
@delegates(Learner)
def text_classifier_learner(
    dls: Any,
    arch: Any,
    seq_len: int = 72,
    config: Mapping[str, Any] | None = None,
    backwards: bool = False,
    pretrained: bool = True,
    drop_mult: float = 0.5,
    n_out: int | None = None,
    lin_ftrs: Sequence[int] | None = None,
    ps: Sequence[float] | None = None,
    max_len: int | None = 72 * 20,
    y_range: tuple[float, float] | None = None,
    *,
    pool: str | None = None,
    pretrained_fnames: Sequence[StrPath] | None = None,
    alpha: float = 2.0,
    beta: float = 1.0,
    **learner_args: Unpack[LearnerArgs],
) -> TextLearner:
    """A `TextLearner` that predicts from a text what the loaders have as targets: a label, several, numbers, or a label a word.

    Args:
        dls: The loaders: `TextDataLoaders.from_folder(path, text_vocab=lm_dls.vocab)`.
        arch: `AWD_LSTM`; or an encoder or decoder of Hugging Face: its folder, its name on the hub, or the model itself, of
            which a head is left out.
        seq_len: Tokens that a recurrent encoder reads at once; gradients flow no further.
        config: Settings that differ from `awd_lstm_clas_config`, or from the config.json of a model of Hugging Face.
        backwards: Take weights that were trained on texts from their end to their start.
        pretrained: Start from a trained encoder, with all but the head frozen: that of Hugging Face, or one of Wikitext-103.
        drop_mult: Multiplies the dropouts of an AWD-LSTM.
        n_out: Number of outputs; by default as many as the targets need.
        lin_ftrs: Widths of the hidden layers of the head; by default [50] on an AWD-LSTM, and none on a model of Hugging Face.
        ps: Dropout of the head's layers, without the first on an AWD-LSTM; 0.1 each by default.
        max_len: The head on an AWD-LSTM sees about so many last tokens of a text; None for all.
        y_range: (low, high) that a scaled sigmoid maps the outputs into.
        pool: How the tokens make the vector of a text on a model of Hugging Face: "mean", "first" or "last"; by default as its
            folder says, or else the last token of a decoder and the mean of an encoder.
        pretrained_fnames: Start from these files: weights and their vocabulary, in `path/model_dir` or anywhere.
        alpha: Weight in the loss of the mean square of the encoder's outputs.
        beta: Weight of the mean square of their change.
        learner_args: Arguments of `Learner`.

    Raises:
        Offline: The weights cannot be downloaded; nothing has been built.
        UnknownName: The architecture is not known.
        BadArgument: There is no such argument or setting.
        BadValue: The number of outputs is unknown, or weights and vocabulary do not belong together.
    """
    column = TextColumn.of_loaders(dls)
    if n_out is None:
        fix = "loaders with labels: TextDataLoaders.from_folder(path), without is_lm=True; or n_out="
        n_out = outputs_for(dls, column.targets, fix)
    if is_source(arch):
        refuse_recurrent(
            {
                "seq_len": (seq_len, 72), "backwards": (backwards, False), "drop_mult": (drop_mult, 0.5),
                "max_len": (max_len, 72 * 20), "alpha": (alpha, 2.0), "beta": (beta, 1.0),
                "pretrained_fnames": (pretrained_fnames, None),
            }
        )  # fmt: skip
        head = {"lin_ftrs": lin_ftrs, "ps": ps, "y_range": y_range, "pool": pool}
        built = hf_classifier(dls, arch, n_out, pretrained, config, **head)
        learn = _on_transformer(TextLearner, dls, built, transformer_clas_split, learner_args)
        if pretrained:
            learn.freeze()
        return learn
    if pool is not None:
        raise BadArgument("pool is for models of Hugging Face", got=f"pool={pool!r}", fix="leave out pool=")
    settings, files = _with_padding(config, column), None
    if pretrained_fnames is not None:
        files = given_files(_weights_folder(dls, learner_args), pretrained_fnames)
    elif pretrained:
        files = _published("text_classifier_learner", arch, column, settings, backwards)
    args: dict[str, Any] = {
        "vocab_sz": len(column.vocab), "n_class": n_out, "seq_len": seq_len, "config": settings,
        "drop_mult": drop_mult, "lin_ftrs": lin_ftrs, "ps": ps, "max_len": max_len, "y_range": y_range,
        "pad_idx": 1 if column.pad is None else column.pad, "per_token": column.targets == ["token_category"],
    }  # fmt: skip
    learner_args.setdefault("splitter", find_meta(arch)["split_clas"])
    learn = TextLearner(dls, get_text_classifier(arch, **args), alpha, beta, **learner_args)
    learn.recipe = text_recipe("text.classifier", arch, args)
    return learn if files is None else learn.load_pretrained(*files)

"""The learners for texts: language models that go on with a text, and classifiers that may start from their encoders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar, Unpack

import torch
from torch import nn

from layered.callback import ModelResetter, rnn_cbs
from layered.data import as_loaders, outputs_for
from layered.files import joined
from layered.foundation import (
    BadArgument,
    BadValue,
    CannotRestore,
    Path,
    StrPath,
    checked,
    delegates,
    describe,
    learner_kinds,
    noop,
    output_scores,
    whole_number,
)
from layered.inference import evaluating, get_preds, model_device
from layered.loop import (
    Resettable,
    callbacks_of,
    check_fits,
    find_weights,
    put_weights,
    read_parts,
    unwrapped,
    write_weights,
)
from layered.nn import CrossEntropyLossFlat
from layered.text.column import Decoder, TextColumn
from layered.text.embedding import embed
from layered.text.generation import check_sampling, next_word
from layered.text.hf_models import Built, hf_classifier, hf_language_model, is_source, refuse_recurrent
from layered.text.lm_loader import LMDataLoader
from layered.text.lora import load_adapters, merge_lora, save_adapters, to_lora
from layered.text.models.heads import (
    SentenceEncoder,
    checked_config,
    find_meta,
    get_language_model,
    get_text_classifier,
)
from layered.text.models.transformers import (
    TransformerEncoder,
    TransformerLM,
    transformer_clas_split,
    transformer_lm_split,
)
from layered.text.pretrained import PRETRAINED_FNAMES, clean_raw_keys, given_files, pretrained_files, read_pretrained
from layered.text.recipes import text_recipe
from layered.text.rules import decode_spec_tokens
from layered.training import Learner, LearnerArgs

T = TypeVar("T", bound="TextLearner")

MOST_KEPT = 2**30  # bytes of scores of a language model that `get_preds` keeps


@learner_kinds.register("text.TextLearner")
class TextLearner(Learner):
    """A `Learner` for texts. A model that carries state gets the callbacks for that.

    Args:
        dls: The data.
        model: An encoder and what stands on it.
        alpha: Weight in the loss of the mean square of the encoder's outputs: see `RNNRegularizer`.
        beta: Weight of the mean square of their change from one time step to the next.
        moms: Momentum at the start, middle and end of a one-cycle fit.
        learner_args: Arguments of `Learner`.
    """

    def __init__(
        self,
        dls: Any,
        model: nn.Module,
        alpha: float = 2.0,
        beta: float = 1.0,
        moms: tuple[float, float, float] | None = (0.8, 0.7, 0.8),
        **learner_args: Any,
    ) -> None:
        own = rnn_cbs(alpha, beta) if isinstance(model, Resettable) else []
        cbs = [*own, *callbacks_of(learner_args.pop("cbs", None))]
        super().__init__(dls, model, moms=moms, cbs=cbs, **learner_args)

    embed = embed
    to_lora = to_lora
    merge_lora = merge_lora
    save_adapters = save_adapters
    load_adapters = load_adapters

    @property
    def column(self) -> TextColumn:
        """The texts of the loaders: their vocabulary, and how a text becomes numbers."""
        return TextColumn.of_loaders(self.dls)

    @property
    def encoder(self) -> nn.Module:
        """The part of the model that a classifier takes over from a language model."""
        model: Any = unwrapped(self.model)
        if isinstance(model, TransformerLM):
            return model.module.base_model  # type: ignore[return-value]  # transformers' own attribute
        return model[0].module if isinstance(model[0], (SentenceEncoder, TransformerEncoder)) else model[0]

    def save_encoder(self, file: StrPath) -> Path:
        """Write the encoder and the vocabulary that it is for to `path/model_dir/file.layered`.

        Args:
            file: A name, with or without its suffix, or a path.

        Returns:
            The path of the file.

        Raises:
            CannotSave: It cannot be written.
            CannotTrain: Another thread trains.
        """
        with self.turns.of_item():
            return write_weights(self, file, {"model": self.encoder.state_dict(), "vocab": self.column.vocab})

    def load_encoder(self, file: StrPath, device: torch.device | str | None = None) -> Self:
        """Read what `save_encoder` wrote, or the weights of an encoder by another library, and freeze all but the last group.

        Args:
            file: A name in `path/model_dir`, or a path, with or without its suffix.
            device: Where to move the model first.

        Raises:
            CannotRestore: The encoder was trained with another vocabulary, or the weights do not fit.
            NotFoundPath: There is no such file.
            BadFile: It is damaged.
            UnsafeFile: It holds more than weights.
        """
        path = find_weights(self, file)
        parts = read_parts(path)
        _check_vocab(path, parts.get("vocab"), self.column.vocab)
        weights, encoder = clean_raw_keys(parts["model"]), self.encoder
        with self.turns.of_pass(fits=True):
            check_fits(
                path, encoder.state_dict(), weights, strict=True, fix="the same architecture, config= and text_vocab="
            )
            if device is not None:
                self.model.to(device)
            encoder.load_state_dict(weights)
        self.freeze()
        return self

    def load_pretrained(self, wgts_fname: StrPath, vocab_fname: StrPath, model: nn.Module | None = None) -> Self:
        """Read a published language model: rows go by word. All but the last parameter group is frozen.

        Args:
            wgts_fname: The file of the weights.
            vocab_fname: The file of their vocabulary, a list of strings as JSON or as a pickle.
            model: Accepted because it is taught; a classifier takes the encoder alone.

        Raises:
            CannotRestore: The weights do not fit the model.
            BadValue: The vocabulary does not belong to the weights, or has no word in common with that of the data.
            BadFile: A file is damaged.
            UnsafeFile: A file holds more than tensors or strings.
        """
        weights = read_pretrained(wgts_fname, vocab_fname, self.column.vocab)
        target = unwrapped(self.model)
        if isinstance(target[0], SentenceEncoder):  # type: ignore[index]  # an encoder and its head
            target = self.encoder
            weights = {name.removeprefix("0."): x for name, x in weights.items() if name.startswith("0.")}
        with self.turns.of_pass(fits=True):
            fix = f"the usual config=, which the published weights have; pretrained=False; or {PRETRAINED_FNAMES}"
            check_fits(Path(wgts_fname), target.state_dict(), weights, strict=True, fix=fix)
            target.load_state_dict(weights)
        self.freeze()
        return self

    def load(
        self, file: StrPath, with_opt: bool = True, strict: bool = True, device: torch.device | str | None = None
    ) -> Self:
        """Read weights as `Learner.load` does, those of older layouts too, which hold dropped weights beside the raw ones.

        Args:
            file: A name in `path/model_dir`, or a path, with or without its suffix.
            with_opt: Read the optimizer's state too, if the file has one.
            strict: Every weight of the model must be in the file, and no other.
            device: Where to move the model first.

        Raises:
            CannotRestore: Names or shapes differ; the error lists them.
            NotFoundPath: There is no such file.
            BadFile: It is damaged.
            UnsafeFile: It holds more than weights.
        """
        path = find_weights(self, file)
        parts = read_parts(path)
        with self.turns.of_pass(fits=True):
            put_weights(
                self, path, clean_raw_keys(parts["model"]), parts.get("opt") if with_opt else None, strict, device
            )
        return self


@learner_kinds.register("text.LMLearner")
class LMLearner(TextLearner):
    """A `TextLearner` of a language model, whose `predict` goes on with a text. Its arguments are those of `TextLearner`."""

    def predict(  # type: ignore[override]  # the text that is predicted
        self,
        text: str,
        n_words: int = 1,
        no_unk: bool = True,
        temperature: float = 1.0,
        min_p: float | None = None,
        no_bar: bool = False,
        decoder: Decoder = decode_spec_tokens,
        only_last_word: bool = False,
        *,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> str:
        """The text, and words that are drawn to follow it, up to the end token, if texts of the training have one.

        Args:
            text: How the text begins.
            n_words: How many words to add.
            no_unk: Never draw `xxunk`.
            temperature: Below 1 likely words become likelier; 0 takes the likeliest.
            min_p: Leave out words that are less probable.
            no_bar: Ignored; accepted because it is taught.
            decoder: From tokens to words, such as capitals in place of `xxmaj`.
            only_last_word: Ignored, as each new word is read with the state that those before it left; accepted because it is
                taught.
            top_k: Draw from only so many of the likeliest words.
            top_p: Draw from only the likeliest words that together have this probability.
            seed: Draw from a generator of this seed, in place of torch's own.

        Raises:
            BadArgument: `text` is not a text.
            BadValue: `text` is empty and nothing begins a text, or `n_words` is not a number of words.
            OutOfRange: A setting is outside its range.
            CannotTrain: Another thread trains, or the loaders cannot read a text.
        """
        if not isinstance(text, str):
            raise BadArgument(
                "a language model goes on with a text", got=describe(text), fix='learn.predict("I liked", 40)'
            )
        if (count := whole_number(n_words)) is None or count < 0:
            raise BadValue("n_words is a number of words", got=repr(n_words), expected="a whole number from 0")
        check_sampling(temperature, min_p, top_k, top_p)
        column, device = self.column, model_device(self)
        ids = column.read(text)
        if not ids:
            raise BadValue("there is nothing to go on with", got=repr(text), fix='learn.predict("I liked", 40)')
        generator = None if seed is None else torch.Generator(device).manual_seed(seed)
        never = column.in_no_text + ([column.unk] if no_unk and column.unk is not None else [])
        with evaluating(self), torch.inference_mode(), _fresh_state(self.model):
            model, new = unwrapped(self.model), ids
            limit = model.limit if isinstance(model, TransformerLM) else None
            for _ in range(count):
                output = self.model(torch.tensor([new[-(limit or 0) :]], device=device))
                scores = output[0] if isinstance(output, tuple) else output_scores(output)
                new = [next_word(scores[0, -1], temperature, min_p, top_k, top_p, never, generator)]
                if new[0] == column.end:
                    break
                ids = ids + new
                new = new if isinstance(model, Resettable) else ids
        return column.write(ids, decoder)

    def get_preds(self, ds_idx: int = 1, dl: Iterable[Any] | None = None, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Probabilities of all words at all time steps, as `Learner.get_preds`; refused if they would fill the memory.

        Args:
            ds_idx: Which of the learner's loaders: 1 validation, 0 training.
            dl: A loader of any library, in place of `ds_idx`.
            args: As for `Learner.get_preds`.
            kwargs: As for `Learner.get_preds`.

        Raises:
            BadValue: They would take more than a gigabyte.
        """
        loader = self.dls[ds_idx] if dl is None else dl
        if isinstance(loader, LMDataLoader) and kwargs.get("with_preds", True) and kwargs.get("save_preds") is None:
            words = len(self.column.vocab)
            size = 4 * (loader.n or 0) * loader.seq_len * words
            if size > MOST_KEPT:
                raise BadValue(
                    "the probabilities of all words at all time steps would fill the memory",
                    got=f"{loader.n} rows of {loader.seq_len} tokens, {words} words: {size / 2**30:.1f} GiB",
                    expected=f"at most {MOST_KEPT / 2**30:g} GiB",
                    fix="for preds, targets in learn.stream_preds(): print(preds.shape)",
                )
        return get_preds(self, ds_idx, dl, *args, **kwargs)


@contextmanager
def _fresh_state(model: nn.Module) -> Iterator[None]:
    """Context manager: the model begins without carried state, and has afterwards what it carried before."""
    carried = [(part, name, getattr(part, name)) for part in model.modules() for name in ModelResetter().carried(part)]
    reset = model.reset if isinstance(model, Resettable) else noop
    try:
        reset()
        yield
    finally:
        reset()
        for part, name, state in carried:
            setattr(part, name, state)


def _check_vocab(path: Path, old: object, new: Sequence[str]) -> None:
    """Refuse an encoder of another vocabulary: its rows would be those of other words."""
    if isinstance(old, list) and old != new:
        differing = next(
            (i for i, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), min(len(old), len(new))
        )
        first = " and ".join(repr(words[differing]) if differing < len(words) else "none" for words in (old, new))
        raise CannotRestore(
            f"the encoder in {path} was trained with another vocabulary than that of the loaders",
            got=f"{len(old)} and {len(new)} words; number {differing} is {first}",
            expected="the same words in the same order",
            fix="TextDataLoaders.from_folder(path, text_vocab=lm_dls.vocab), with the loaders of the language model",
        )


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

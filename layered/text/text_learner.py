"""The learners of texts: what they do beside other learners. `learner` has the functions that make them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import nn

from layered.callback import ModelResetter, rnn_cbs
from layered.foundation import (
    BadArgument,
    BadValue,
    CannotRestore,
    Path,
    StrPath,
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
    load_whole,
    read_parts,
    unwrapped,
    write_weights,
)
from layered.text.column import Decoder, TextColumn
from layered.text.embedding import embed
from layered.text.generation import check_sampling, next_word
from layered.text.lm_loader import LMDataLoader
from layered.text.lora import load_adapters, merge_lora, save_adapters, to_lora
from layered.text.models.heads import SentenceEncoder
from layered.text.models.transformers import TransformerEncoder, TransformerLM, find_transformer
from layered.text.pretrained import PRETRAINED_FNAMES, clean_raw_keys, read_pretrained
from layered.text.rules import decode_spec_tokens
from layered.training import Learner

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

    def fine_tune(
        self,
        epochs: int,
        base_lr: float = 2e-3,
        freeze_epochs: int = 1,
        lr_mult: float | None = None,
        pct_start: float = 0.3,
        div: float = 5.0,
        **fit_args: Any,
    ) -> None:
        """Train the head alone with the body frozen, then all groups, the early ones at smaller rates.

        Args:
            epochs: Epochs of the second fit.
            base_lr: Largest rate, per step, of the first fit; the second takes half of it.
            freeze_epochs: Epochs of the first fit; 0 leaves it out.
            lr_mult: The first group learns at `base_lr / lr_mult`. By default 100; 4 for a model of Hugging Face, of which
                each block is a group, and whose early blocks hardly learn at smaller rates.
            pct_start: Fraction of the second fit before its peak, in [0, 1].
            div: The second fit starts at its peak divided by `div`.
            fit_args: For both fits: see `fit_one_cycle`.

        Raises:
            BadValue: A number of epochs is not a whole number from 0.
            OutOfRange: A rate or divisor is not positive, or `pct_start` is outside [0, 1].
        """
        if lr_mult is None:
            lr_mult = 100 if find_transformer(unwrapped(self.model)) is None else 4
        super().fine_tune(epochs, base_lr, freeze_epochs, lr_mult, pct_start, div, **fit_args)

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
        parts = read_parts(path, self.clean_names)
        _check_vocab(path, parts.get("vocab"), self.column.vocab)
        weights, encoder = parts["model"], self.encoder
        with self.turns.of_pass(fits=True):
            check_fits(
                path, encoder.state_dict(), weights, strict=True, fix="the same architecture, config= and text_vocab="
            )
            if device is not None:
                self.model.to(device)
            load_whole(encoder, weights)
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
            load_whole(target, weights)
        self.freeze()
        return self

    def clean_names(self, weights: Mapping[str, Any]) -> Mapping[str, Any]:
        """The weights of a file without the dropped copies that older layouts have beside recurrent weights.

        Args:
            weights: The weights by name.
        """
        return clean_raw_keys(weights)


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

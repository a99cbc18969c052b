"""Tokenizers of Hugging Face: texts to the numbers that a pretrained model was trained with, and back.

They are used through the package `tokenizers`; `transformers` is asked only where there is no tokenizer.json.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layered.files import parse_json, read_whole
from layered.foundation import (
    BadArgument,
    BadFile,
    BadValue,
    NotFoundPath,
    Path,
    TitledStr,
    Transform,
    describe,
    failed,
    require,
    transforms,
)
from layered.integrations import hub_folder, position_limit
from layered.text.corpus import Numbered, tokenized
from layered.text.cutting import check_cut, kept_part, warn_of_cut, warn_of_cuts
from layered.text.reading import TextReader, as_text, read_text
from layered.text.rules import BOS, EOS, PAD, UNK
from layered.text.store import JoinedTexts
from layered.text.types import TensorText
from layered.text.words import SplitStr, words_in

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_FILE, _SETTINGS = "tokenizer.json", ("tokenizer_config.json", "special_tokens_map.json")
_ON_HUB = ["tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt", "*.model", "config.json"]
GAPS = 2**16  # numbers without a token that a vocabulary may have beside as many as it has tokens
_WHY = "a tokenizer of Hugging Face"


@transforms.register("text.HuggingFaceTokenizer")
class HuggingFaceTokenizer(Transform):
    """Texts and text files to the numbers of a Hugging Face tokenizer, with the special tokens that its model expects.

    Truncation and padding that the tokenizer's file asks for are reset: `max_len` says how long a text may be, and the
    loader pads.

    Args:
        source: A tokenizer of `tokenizers` or `transformers`, a folder, a tokenizer.json or its text, or a name on the hub.
        special: Which token has which role, by "bos", "eos", "unk", "sep", "pad", "cls", "mask"; by default as the files
            beside the tokenizer say.
        max_len: The most tokens of a text, special ones included; None for all.
        cut: What is kept of a longer text: "head"; "head+tail", a quarter of the tokens from the start and the others from
            the end; or "chunks", all of it, for models that read it piece by piece.
        text_cols: The column that holds the text of a row; or two, whose texts become a pair as the tokenizer makes it.
        encoding: How the bytes of files are read.
        is_split: Items are lists of words, or texts with spaces between words; each text knows which token begins a word.

    Raises:
        MissingDependency: The package `tokenizers` is not installed.
        NotFoundPath: The folder holds no tokenizer, or there is none of that name.
        BadFile: The file does not describe a tokenizer.

    Examples:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> words = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "film": 2}, unk_token="[UNK]"))
        >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
        >>> tok = HuggingFaceTokenizer(words)
        >>> tok("a good film")
        TensorText([1, 0, 2])
        >>> tok.decode(_)
        'a [UNK] film'

    Attributes:
        model_limit: The most tokens that the model in the same folder reads; None if that is not known.
    """

    def __init__(
        self,
        source: Any,
        special: Mapping[str, str] | None = None,
        max_len: int | None = None,
        cut: str = "head",
        text_cols: Any = None,
        encoding: str = "utf8",
        is_split: bool = False,
    ) -> None:
        super().__init__()
        check_cut(cut)
        self.is_split = is_split
        self.backend, said, self.model_limit = _opened(source)
        self.special: dict[str, str] = dict(said if special is None else special)
        for role, token in self.special.items():
            if any("\ud800" <= c <= "\udfff" for c in token):
                raise BadFile(
                    f"the token for '{role}' cannot be written as text",
                    got=ascii(token),
                    fix="correct the settings of the tokenizer",
                )
        self.backend.no_truncation()
        self.backend.no_padding()
        self.read = TextReader(text_cols, encoding=encoding)
        self.max_len, self.cut = max_len, cut
        self.prefix, self.suffix = self._around()
        if len(self.read.text_cols) > 2:
            raise BadArgument(
                "a pretrained tokenizer takes one text, or a pair",
                got=f"text_cols={self.read.text_cols}",
                fix="join further columns: df['text'] = df['title'] + ' ' + df['body']",
            )
        if max_len is not None and max_len <= self._around_count:
            raise BadValue(
                "no token of a text would be left",
                got=f"max_len={max_len}",
                expected=f"more than the {self._around_count} special tokens around each text",
            )

    @property
    def init_args(self) -> dict[str, Any]:
        """What the constructor takes, with the tokenizer as text."""
        return {**super().init_args, "source": self.backend.to_str(), "special": self.special}

    def __repr__(self) -> str:
        limit = "" if self.max_len is None else f", max_len={self.max_len}, cut={self.cut!r}"
        return f"HuggingFaceTokenizer({len(self.vocab)} tokens{limit})"

    def _around(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after each text."""
        with _asking():
            encoded = self.backend.encode("a")
        inner = [i for i, is_special in enumerate(encoded.special_tokens_mask) if not is_special]
        first, last = (inner[0], inner[-1] + 1) if inner else (len(encoded.ids),) * 2
        return encoded.ids[:first], encoded.ids[last:]

    @functools.cached_property
    def vocab(self) -> list[str]:
        """The tokens in order; a number without a token has an empty one."""
        numbers = self.backend.get_vocab(with_added_tokens=True)
        size = 1 + max(numbers.values(), default=-1)
        if size > 2 * len(numbers) + GAPS:
            raise BadFile(
                "the numbers of the tokens do not follow one another",
                got=f"{len(numbers)} tokens, of which one has the number {size - 1}",
                expected=f"no more than {GAPS} numbers without a token",
            )
        tokens = [""] * size
        for token, i in numbers.items():
            tokens[i] = token
        return tokens

    def id_of_role(self, role: str) -> int | None:
        """The number of the token with a role, such as "pad"; None if there is none.

        Args:
            role: One of `ROLES`.
        """
        token = self.special.get(role)
        number: int | None = None if token is None else self.backend.token_to_id(token)
        return number

    @property
    def pad_idx(self) -> int:
        """The number that loaders pad with: the padding token, or else the end token, or 0; a mask tells it from text."""
        candidates = (self.id_of_role(role) for role in ("pad", "eos"))
        return next((i for i in candidates if i is not None), 0)

    def encodes(self, o: object) -> TensorText:
        if self.is_split:
            words = self.read.words(o)
            ids, owners = self._pieces(words)
            self._warn_of_cut(len(ids))
            return self._of_words(words, ids, owners)
        if self.read.is_several:
            first, second = map(self.body, self.read.fields(o))
            self._warn_of_cut(len(first) + len(second))
            return self._pair(first, second)
        body = self.body(self.read(o))
        self._warn_of_cut(len(body))
        return self.numbers(body)

    def _warn_of_cut(self, length: int) -> None:
        if self.max_len is not None:
            warn_of_cut(length + self._around_count, self.max_len, self.cut)

    def keep(self, items: Iterable[object]) -> JoinedTexts:
        """The numbers of all texts of a column; a warning says how many are cut.

        Args:
            items: The items.
        """
        if self.is_split or self.read.is_several:
            lengths = list[int]()
            kept = JoinedTexts(self._noting_lengths(items, lengths))
        else:
            done = tokenized(items, self.read, self._numbered, self._described, n_workers=0)
            kept = JoinedTexts(self._whole(done.corpus.text(int(i)).tolist()) for i in done.which)
            lengths = done.lengths.tolist()
        if self.max_len is not None:
            warn_of_cuts([length + self._around_count for length in lengths], self.max_len, self.cut)
        return kept

    @property
    def _around_count(self) -> int:
        """How many special tokens a text has, or a pair of texts."""
        return len(self._marks) if self.read.is_several else len(self.prefix) + len(self.suffix)

    def _noting_lengths(self, items: Iterable[object], lengths: list[int]) -> Iterator[TensorText]:
        """Items as numbers, and how long they are before they are cut."""
        for i, item in enumerate(items):
            try:
                if self.is_split:
                    words = self.read.words(item)
                    ids, owners = self._pieces(words)
                else:
                    first, second = map(self.body, self.read.fields(item))
            except Exception as error:
                raise failed(error, f"reading the text of item {i}") from error
            if self.is_split:
                lengths.append(len(ids))
                yield self._of_words(words, ids, owners)
            else:
                lengths.append(len(first) + len(second))
                yield self._pair(first, second)

    def _numbered(self, texts: Sequence[str]) -> Numbered:
        """The numbers of several texts, without the special tokens, in as many threads as `tokenizers` uses."""
        with _asking():
            bodies = [encoded.ids for encoded in self.backend.encode_batch_fast(texts, add_special_tokens=False)]
        lengths = np.fromiter(map(len, bodies), np.int64, len(bodies))
        return Numbered(
            None, np.fromiter(itertools.chain.from_iterable(bodies), np.uint32, int(lengths.sum())), lengths
        )

    @property
    def _described(self) -> str:
        """What the numbers depend on beside the text."""
        return f"tokenizers {version('tokenizers')} {self.backend.to_str()}"

    def encode_tensor(self, o: Tensor) -> Tensor:
        """Numbers stay as they are."""
        return o

    def decodes(self, ids: TensorText) -> TitledStr:
        text = self._written(ids.tolist())
        if "words" not in vars(ids):
            return TitledStr(text)
        return SplitStr.of_words(
            text, [self._written(own).strip() for own in words_in(ids.tolist(), ids.words.tolist())]
        )

    def _written(self, ids: Sequence[int]) -> str:
        with _asking():
            return str(self.backend.decode(ids, skip_special_tokens=True))

    def body(self, text: str) -> list[int]:
        """The numbers of a text's own tokens, all of them, without the special tokens around it.

        Args:
            text: The text.
        """
        with _asking():
            ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return ids

    @functools.cached_property
    def _marks(self) -> list[tuple[int, int, int]]:
        """The special tokens around the texts of a pair: how many of the texts stand before each, its number and its segment."""
        with _asking():
            pair = self.backend.encode("a", "a")
        numbers = zip(pair.ids, pair.type_ids, strict=True)
        places = [-1 if number is None else number for number in pair.sequence_ids]
        return [
            (len({place for place in places[:i] if place >= 0}), token, segment)
            for i, (token, segment) in enumerate(numbers)
            if places[i] < 0
        ]

    @functools.cached_property
    def _segments(self) -> tuple[int, int]:
        """The segments of the two texts of a pair."""
        with _asking():
            pair = self.backend.encode("a", "a")
        return pair.type_ids[pair.sequence_ids.index(0)], pair.type_ids[pair.sequence_ids.index(1)]

    def _pair(self, first: Sequence[int], second: Sequence[int]) -> TensorText:
        """Two texts as the tokenizer puts them together; the longer one is cut first."""
        bodies: list[Sequence[int]] = [first, second]
        if self.max_len is not None and self.cut != "chunks":
            room = self.max_len - len(self._marks)
            half = min(len(first), max(room - len(second), room // 2))
            for i, most in enumerate((half, room - half)):
                bodies[i] = [*itertools.chain(*kept_part(bodies[i], most, self.cut))]
        parts = [[(token, segment) for before, token, segment in self._marks if before == place] for place in range(3)]
        texts = [[(token, segment) for token in body] for body, segment in zip(bodies, self._segments, strict=True)]
        pairs = [*parts[0], *texts[0], *parts[1], *texts[1], *parts[2]]
        text = TensorText(torch.tensor([token for token, _ in pairs], dtype=torch.int64))
        text.segments = torch.tensor([segment for _, segment in pairs], dtype=torch.int64)
        return text

    @property
    def _room(self) -> int | None:
        """How many tokens of its own a text may have."""
        if self.max_len is None or self.cut == "chunks":
            return None
        return self.max_len - self._around_count

    def numbers(self, body: Sequence[int]) -> TensorText:
        """A text as its model expects it: cut to `max_len`, with the special tokens around it.

        Args:
            body: What `body` gives.
        """
        return TensorText(torch.tensor(self._whole(body), dtype=torch.int64))

    def _whole(self, body: Sequence[int]) -> list[int]:
        parts = (body,) if self._room is None else kept_part(body, self._room, self.cut)
        return [*itertools.chain(self.prefix, *parts, self.suffix)]

    def _pieces(self, words: Sequence[str]) -> tuple[list[int], list[int]]:
        """The numbers of the tokens of words with a space between them, and the word that each belongs to. A word that the
        tokenizer leaves out, such as one of invisible characters, is an unknown one."""
        text = " ".join(words)
        word_at = np.repeat(
            np.arange(len(words)), [len(word) + 1 for word in words]
        )  # of each character, its space too
        with _asking():
            encoded = self.backend.encode(text, add_special_tokens=False)
        places = [min(start + text[start:end].startswith(" "), len(text) - 1) for start, end in encoded.offsets]
        ids, owners = list(encoded.ids), word_at[np.array(places, dtype=np.int64)].tolist()
        missing = set(range(len(words))).difference(owners)
        if missing:
            unknown = self.id_of_role("unk")
            pairs = [
                *zip(owners, ids, strict=True),
                *((i, self.pad_idx if unknown is None else unknown) for i in missing),
            ]
            pairs.sort(key=operator.itemgetter(0))
            ids, owners = [i for _, i in pairs], [owner for owner, _ in pairs]
        return ids, owners

    def _of_words(self, words: Sequence[str], ids: Sequence[int], owners: Sequence[int]) -> TensorText:
        """A text as its model expects it, which knows the first token of each word."""
        begins = [owner if owner != before else -1 for before, owner in zip([-1, *owners], owners, strict=False)]
        kept = self.numbers(range(len(ids)))
        first, last = len(self.prefix), len(kept) - len(self.suffix)
        text, starts = TensorText(kept.clone()), torch.full(kept.shape, -1)
        own = kept[first:last].as_subclass(Tensor)
        text[first:last] = torch.tensor(ids, dtype=torch.int64)[own]
        starts[first:last] = torch.tensor(begins, dtype=torch.int64)[own]
        text.words, text.word_count = starts, len(words)
        return text

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_sz: int = 8000, kind: str = "bpe", **kwargs: Any
    ) -> HuggingFaceTokenizer:
        """A tokenizer of sub-words that is trained on texts; `xxbos` stands before each text.

        Args:
            texts: The texts.
            vocab_sz: The most tokens.
            kind: "bpe" (of bytes, so that no text is unknown) or "unigram".
            kwargs: Of the constructor: `max_len`, ….
        """
        tokenizers = require("tokenizers", extra="hf", why=_WHY)
        models, before, after = tokenizers.models, tokenizers.pre_tokenizers, tokenizers.decoders
        special = [UNK, PAD, BOS, EOS]
        options = {"vocab_size": vocab_sz, "special_tokens": special, "show_progress": False}
        if kind == "bpe":
            backend = tokenizers.Tokenizer(models.BPE())
            backend.pre_tokenizer, backend.decoder = before.ByteLevel(add_prefix_space=False), after.ByteLevel()
            trainer = tokenizers.trainers.BpeTrainer(initial_alphabet=before.ByteLevel.alphabet(), **options)
        elif kind == "unigram":
            backend = tokenizers.Tokenizer(models.Unigram())
            backend.pre_tokenizer, backend.decoder = before.Metaspace(), after.Metaspace()
            trainer = tokenizers.trainers.UnigramTrainer(unk_token=UNK, **options)
        else:
            raise BadValue("unknown kind of tokenizer", got=f"kind={kind!r}", expected="'bpe' or 'unigram'")
        backend.train_from_iterator(map(as_text, texts), trainer)
        backend.post_processor = tokenizers.processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, special.index(BOS))]
        )
        return cls(backend, {"unk": UNK, "pad": PAD, "bos": BOS, "eos": EOS}, **kwargs)


def _opened(source: Any) -> tuple[Any, dict[str, str], int | None]:
    """A tokenizer of `tokenizers`, which is a copy, the tokens with a role, and how many tokens the model beside it reads."""
    tokenizers = require("tokenizers", extra="hf", why=_WHY)
    if isinstance(source, (str, os.PathLike)):
        text, special, limit = _found(source)
    elif isinstance(source, tokenizers.Tokenizer):
        text, special, limit = source.to_str(), {}, None
    else:
        text, special, limit = *_of_transformers(source), None
    with _asking():
        backend = tokenizers.Tokenizer.from_str(text)
    padding = parse_json(text, "the tokenizer").get("padding")
    return backend, {**({"pad": padding["pad_token"]} if padding else {}), **special}, limit


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    """Context in which the package `tokenizers` is asked: whatever it raises says that the file makes no sense."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":  # of Rust: not an Exception
            raise BadFile("this does not describe a tokenizer", got=f"{error!s:.200}", expected=f"a {_FILE}") from error
        raise


def _of_transformers(source: Any) -> tuple[str, dict[str, str]]:
    backend = getattr(source, "backend_tokenizer", None)
    if backend is None:
        raise BadArgument(
            "this is not a tokenizer that can be read as data",
            got=describe(source),
            expected="a tokenizer of `tokenizers`, or a fast one of `transformers`",
            fix="AutoTokenizer.from_pretrained(name) gives the fast one where there is one",
        )
    tokens = {role: getattr(source, f"{role}_token") for role in ROLES}
    return backend.to_str(), {role: str(token) for role, token in tokens.items() if token is not None}


def _found(source: str | os.PathLike[str]) -> tuple[str, dict[str, str], int | None]:
    """A tokenizer that is given as text, lies in a folder or has a name on the hub: see `_opened`."""
    if isinstance(source, str) and source.lstrip().startswith("{"):
        return source, {}, None
    place = Path(source).expanduser()
    if place.is_file():
        return read_text(place), _settings(place.parent), _limit(place.parent)
    if not place.is_dir():
        place = hub_folder(os.fspath(source), _ON_HUB, "tokenizer")
    if (place / _FILE).is_file():
        return read_text(place / _FILE), _settings(place), _limit(place)
    transformers = require("transformers", extra="hf", why=f"a tokenizer without a {_FILE}")
    try:
        found = transformers.AutoTokenizer.from_pretrained(os.fspath(place), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise NotFoundPath(
            f"there is no tokenizer in '{place}'", got=f"{error!s:.200}", expected=f"a folder with a {_FILE}"
        ) from error
    return *_of_transformers(found), _limit(place)


def _limit(folder: Path) -> int | None:
    said = parse_json(read_whole(folder / "config.json", missing_ok=True) or b"{}", f"'{folder / 'config.json'}'")
    return position_limit(said) if isinstance(said, dict) else None


def _settings(folder: Path) -> dict[str, str]:
    """The tokens with a role, as the files beside a tokenizer say."""
    special: dict[str, str] = {}
    for name in _SETTINGS:
        said = parse_json(read_whole(folder / name, missing_ok=True) or b"{}", f"'{folder / name}'")
        if not isinstance(said, dict):
            raise BadFile(f"'{folder / name}' does not hold settings", got=describe(said), expected="a JSON object")
        for role in ROLES:
            token = said.get(f"{role}_token")
            token = token.get("content") if isinstance(token, dict) else token
            if isinstance(token, str):
                special[role] = token
    return special

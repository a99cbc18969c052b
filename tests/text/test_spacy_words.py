"""Words by spaCy's rules, remembered: always the tokens of spaCy itself."""

import functools
import random

import pytest
from hypothesis import given, settings, strategies as st

from layered.text import spacy_words
from layered.text.all import SpacyTokenizer

LANGUAGES = [
    "en",
    "de",
    "fr",
    "es",
    "xx",
]  # some special cases of "es" have blanks; "fr" knows whole tokens by an expression
BLANKS = [" ", " ", " ", "", "  ", "\n", " \n", "\n ", "\t", "\u00a0", "\u2009"]
MARKS = [*".,:;()[]{}'\"-/*<>=_^%$€°’“”…!?#&@\\8", "word", "Word", "10km", "3.5", "U.S.", "a.b", "and/or"]
ADDRESSES = ["http://a.b/c?d=e", "www.x.de", "a@b.com", "(https://x.org)", "x-y.z", "xxmaj", "xxbos"]


@functools.cache
def both(lang, special=None):
    """spaCy's tokenizer with the special tokens, and the library's."""
    import spacy

    ours = SpacyTokenizer(lang, special and list(special))
    theirs = spacy.blank(lang).tokenizer
    if isinstance(theirs, spacy.tokenizer.Tokenizer):
        for token in ours.special_toks:
            theirs.add_special_case(token, [{spacy.attrs.ORTH: token}])
    return ours, theirs


def check(texts, lang, special=None):
    ours, theirs = both(lang, special)
    for text in texts:
        assert ours.tokenize(text) == [token.text for token in theirs(text)], repr(text)


@functools.cache
def texts(lang):
    """Texts of special cases, of what is left of some when they are cut in two, and of marks, with any blanks between."""
    cases = sorted(both(lang)[1].rules)
    halves = [half for case in cases[::3] for i in range(1, len(case)) for half in (case[:i], case[i:])]
    piece = st.sampled_from([*MARKS, *ADDRESSES, *cases, *halves]) | st.sampled_from(MARKS) | st.text(max_size=4)
    pieces = st.lists(st.tuples(piece, st.sampled_from(BLANKS)).map("".join), max_size=12)
    return pieces.map(lambda pieces: "".join(pieces).encode("utf8", "ignore").decode())


@settings(max_examples=30, deadline=None)
@given(st.deferred(lambda: st.tuples(*map(texts, LANGUAGES))))
def test_tokens_are_those_of_spacy(drawn):
    for lang, text in zip(LANGUAGES, drawn, strict=True):
        check([text], lang)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_each_special_case_whole_and_cut_in_two(lang):
    draw = random.Random(0)
    cases = list(both(lang)[1].rules)
    texts = []
    for case in cases:
        cut = draw.randrange(1, len(case) + 1)
        for blank in (" ", draw.choice(BLANKS)):
            halves = case[:cut] + blank + case[cut:]
            texts += [case + blank + draw.choice(cases), halves, f"({halves}, {case}."]
    check(texts, lang)


@pytest.mark.parametrize(
    "special",
    [("<unk>", "xx.bos", ":-", "(a"), ("new york", "a b"), ("(bar baz", "bar", "bar)"), ("it's", "a\nb"), ()],
    ids=str,
)
def test_other_special_tokens_than_the_usual_ones(special):
    parts = [
        *special,
        *(half for token in special for half in token.split()),
        ":",
        "-)",
        ".",
        "(",
        "bar",
        "it",
        "'s",
        "b",
    ]
    draw = random.Random(0)
    texts = ["".join(draw.choice(parts) + draw.choice(BLANKS) for _ in range(6)) for _ in range(500)]
    check(texts, "en", special)


@pytest.mark.parametrize("lang", ["zh", "de"])
def test_other_languages(lang):
    check(["今天天气很好。 电影 不错", "Das ist z. B. gut,\n\noder?", "", " ", "\n", " a  b "], lang)


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(spacy_words, "MOST_SPANS", 3)
    tokenizer = SpacyTokenizer()
    known = tokenizer._divide.__self__
    for text in ("one two three four. five, one two", "x" * 1000 + ", ends"):
        assert tokenizer.tokenize(text) == [token.text for token in both("en")[1](text)]
        assert 0 < len(known) <= 3
        assert max(map(len, known)) < 100


def test_a_case_across_a_border_is_left_to_spacy(monkeypatch):
    ours, _ = both("en")
    asked = []
    monkeypatch.setattr(ours._divide.__self__, "_by_spacy", asked.append)
    assert ours.tokenize("a film, or two (at 8pm).") == ["a", "film", ",", "or", "two", "(", "at", "8", "pm", ")", "."]
    assert asked == []
    monkeypatch.setattr(ours._divide.__self__, "_by_spacy", lambda text: [f"<{text}>"])
    assert ours.tokenize("a film : ) of :- ) two") == ["a", "film", "<: )>", "of", "<:- )>", "two"]

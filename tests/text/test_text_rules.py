"""Rules: the same text as the published ones give, and special tokens undone."""

import json
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

import layered.text.all as facade
from layered.text.all import decode_spec_tokens, tokenize1

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text("utf-8"))  # computed with fastai 2.8.12
RULES = [*facade.defaults.text_proc_rules, *facade.defaults.text_postproc_rules]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_gives_the_published_text(rule):
    for case in GOLDEN:
        assert rule(case["text"]) == case["rules"].get(rule.__name__, case["text"]), case["text"]


def test_words_with_all_rules_are_the_published_ones():
    words = facade.WordTokenizer()
    for case in GOLDEN:
        assert list(tokenize1(case["text"], words)) == case["tokens"], case["text"]


@given(st.text())
def test_rules_take_any_text_and_mark_its_start(text):
    tokens = tokenize1(text, facade.BaseTokenizer())
    assert tokens[0] == facade.BOS
    assert " ".join(tokens) == " ".join(tokens).lower()


words = st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=6, unique=True).map("".join)


@given(st.lists(st.one_of(words, words.map(str.capitalize), words.map(str.upper)), max_size=8))
def test_undoing_special_tokens_gives_the_words_back(written):
    tokens = tokenize1(" ".join(written), facade.BaseTokenizer())[1:]
    single = [word.lower() if len(word) == 1 else word for word in written]  # the case of one letter is not kept
    assert " ".join(decode_spec_tokens(tokens)).replace(" ", "") == "".join(single)


@pytest.mark.parametrize(
    ("tokens", "written"),
    [
        ("xxrep 3 o b xxwrep 3 no .", "ooo b no no no ."),
        ("xxup xxrep 4 ha", "HAHAHAHA"),
        ("xxmaj don't xxbos", "Don't xxbos"),
        ("xxrep", ""),
        ("a xxmaj", "a"),
        ("xxrep many o", "o"),
        ("xxrep 999999999999 o", "o"),
    ],
)
def test_special_tokens_are_undone(tokens, written):
    assert " ".join(decode_spec_tokens(tokens.split())) == written

import io
import math
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from hostile_files import BROKEN, RUN_CODE, START, call, text

from layered.files.pickled import PLAIN_NAMES, read_pickle
from layered.foundation import BadFile, UnsafeFile

PLAIN = {
    "words": ["a", "é", "漢字", "\U0001f600", ""],
    "numbers": [0, -1, 255, 65536, 2**31, -(2**40), 2**70, 0.1, -0.0, math.inf, 1e-300],
    "none": [None, True, False],
    "nested": {"a": {"b": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]}, 1: {2: 3}},
    "bytes": [b"", b"\x00\xff" * 10],
    "sets": [set(), {1, "a"}, frozenset({2})],
    "complex": 1 - 2j,
    "twice": [["same"]] * 3,
}


def read(raw, **names):
    return read_pickle(io.BytesIO(raw), {**PLAIN_NAMES, **names}, "the file")


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_comes_back_as_pickle_gives_it(protocol):
    raw = pickle.dumps(PLAIN, protocol)
    assert read(raw) == pickle.loads(raw)


@pytest.mark.parametrize("protocol", [0, 1])
def test_plain_data_of_the_oldest_protocols_comes_back(protocol):
    plain = {"words": ["a", "b"], "numbers": [1, 2.5, -3], "pair": (1, 2)}
    assert read(pickle.dumps(plain, protocol)) == plain


def test_an_ordered_dict_becomes_a_dict_and_loses_its_attributes():
    table = OrderedDict([("b", 1), ("a", 2)])
    table._metadata = {"version": 1}
    again = read(pickle.dumps(table, 2))
    assert again == {"b": 1, "a": 2}
    assert list(again) == ["b", "a"]
    assert type(again) is dict


@pytest.mark.parametrize("number", [np.float64(0.1), np.float32(0.5), np.int64(-3), np.uint8(200), np.bool_(True)])
@pytest.mark.parametrize("protocol", [2, 4])
def test_numpy_numbers_become_pythons(number, protocol):
    again = read(pickle.dumps({"lr": number}, protocol))["lr"]
    assert again == number.item()
    assert type(again) is type(number.item())


@pytest.mark.parametrize("name", RUN_CODE)
def test_what_needs_code_is_refused_and_the_fix_is_named(name):
    with pytest.raises(UnsafeFile) as caught:
        read(RUN_CODE[name])
    assert caught.value.fix


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_or_too_much_is_refused(name):
    with pytest.raises(BadFile):
        read(BROKEN[name])


def test_the_refusal_names_what_the_file_asked_for():
    with pytest.raises(UnsafeFile, match=r"posix\.system"):
        read(RUN_CODE["a shell command"])


def test_several_pickles_in_a_row_are_read_one_at_a_time():
    stream = io.BytesIO(pickle.dumps([1], 2) + pickle.dumps("two", 2) + b"rest")
    assert read_pickle(stream, {}, "it") == [1]
    assert read_pickle(stream, {}, "it") == "two"
    assert stream.read() == b"rest"


def test_names_are_looked_up_in_the_given_table_alone():
    with pytest.raises(UnsafeFile, match=r"collections\.OrderedDict"):
        read_pickle(io.BytesIO(pickle.dumps(OrderedDict(), 2)), {}, "it")
    with pytest.raises(UnsafeFile, match="BINPERSID"):
        read_pickle(io.BytesIO(START + text("key") + b"Q."), {}, "it")
    raw = START + text("key") + b"Q."
    assert read_pickle(io.BytesIO(raw), {}, "it", lambda identity: identity.upper()) == "KEY"


def test_only_harmless_numpy_types_are_known():
    with pytest.raises(BadFile):
        read(START + call("numpy", "dtype", text("O8")) + b".")
    with pytest.raises(UnsafeFile):
        read(START + call("numpy", "dtype", text("f8")) + b".")

"""One function of many items gives what a loop gives, and failures name the item."""

import os
import threading
import time

import pytest
import torch

from layered.foundation import BadArgument, BadItem, BadValue, L, LayeredError, OutOfRange, defaults, parallel

WAYS = [
    {"n_workers": 0},
    {"n_workers": 2},
    {"n_workers": 3, "chunksize": 2},
    {"n_workers": 2, "threadpool": True},
    {"n_workers": 2, "method": "forkserver"},
]
ways = pytest.mark.parametrize("way", WAYS, ids=str)


def shifted(x, by=0, *, times=1):
    return x * times + by


def inverse(x):
    return 1 / x


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def strange(x):
    raise Odd(1, 2)


def own_error(x):
    raise BadValue("no", fix="yes")


def place(x):
    time.sleep(0.01)
    return os.getpid(), threading.get_ident(), torch.get_num_threads()


@ways
def test_it_gives_what_a_loop_gives_in_the_order_of_the_items(way):
    found = parallel(shifted, (i for i in range(5)), 3, times=2, **way)
    assert isinstance(found, L)
    assert list(found) == [2 * i + 3 for i in range(5)]
    assert list(parallel(shifted, [], **way)) == []


@ways
def test_a_failure_names_the_function_and_the_item_and_keeps_its_cause(way):
    with pytest.raises(BadItem, match=r"running inverse on item 1 \(0\)") as caught:
        parallel(inverse, [1, 0, 2], **way)
    assert "ZeroDivisionError" in caught.value.got
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("way", [WAYS[0], WAYS[1]], ids=str)
def test_an_error_of_ours_keeps_its_class_and_one_that_cannot_travel_is_told(way):
    with pytest.raises(BadValue, match="no, when running own_error on item 0") as caught:
        parallel(own_error, [1], **way)
    assert caught.value.fix == "yes"
    with pytest.raises(BadItem, match=r"strange on item 0") as caught:
        parallel(strange, [1], **way)
    assert "Odd" in str(caught.value)


def test_processes_are_others_and_compute_with_one_thread_and_threads_are_not():
    assert {pid for pid, _, _ in parallel(place, range(4), n_workers=2)}.isdisjoint({os.getpid()})
    assert {threads for _, _, threads in parallel(place, range(2), n_workers=2)} == {1}
    assert {pid for pid, _, _ in parallel(place, range(4), n_workers=2, threadpool=True)} == {os.getpid()}


def test_forked_processes_take_any_function_and_others_say_what_they_cannot_take():
    assert list(parallel(lambda x: x + 1, [1, 2], n_workers=2, method="fork")) == [2, 3]
    with pytest.raises(BadValue, match="cannot be sent") as caught:
        parallel(lambda x: x, [1], n_workers=1, method="spawn")
    assert "threadpool" in caught.value.fix


def test_a_result_that_cannot_come_back_names_the_item():
    with pytest.raises(BadItem, match="on item 0"):
        parallel(lambda x: lambda: x, [1], n_workers=1, method="fork")


def test_a_process_that_dies_is_told():
    with pytest.raises(LayeredError, match=r"running _exit on item 0 \(3\)"):
        parallel(os._exit, [3], n_workers=1)


def test_after_a_failure_the_rest_is_not_begun():
    begun = []

    def fails(x):
        begun.append(x)
        raise ValueError(x)

    with pytest.raises(BadItem):
        parallel(fails, range(1000), n_workers=0)
    assert begun == [0]


def test_the_default_number_of_workers_can_be_set(monkeypatch):
    monkeypatch.setattr(defaults, "cpus", 0, raising=False)
    assert {pid for pid, _, _ in parallel(place, range(3))} == {os.getpid()}


def test_a_bar_is_shown_where_it_is_asked_for(capsys):
    assert list(parallel(inverse, [1.0, 2.0], n_workers=0, progress=True)) == [1.0, 0.5]
    assert "2/2" in capsys.readouterr().out
    parallel(inverse, [1.0], n_workers=0, progress=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("wrong", [-1, 1.5, "2"])
def test_a_number_of_workers_that_is_none_is_refused(wrong):
    with pytest.raises(OutOfRange, match="n_workers"):
        parallel(inverse, [1], n_workers=wrong)


def test_wrong_arguments_are_refused_before_anything_is_begun():
    with pytest.raises(BadArgument, match="a function, then items"):
        parallel([1], inverse)
    with pytest.raises(BadArgument):
        parallel(inverse, None)
    with pytest.raises(BadValue, match="unknown start method"):
        parallel(inverse, [1], method="frok")

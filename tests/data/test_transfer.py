"""Batches arrive on their device, copied one ahead where that is worth it. (No GPU is needed: its parts are stood in for.)"""

from __future__ import annotations

import pytest
import torch

from layered.data import transfer
from layered.data.transfer import on_device, one_ahead, pinned
from layered.foundation import TensorImage


def test_each_is_started_before_the_one_before_it_is_used():
    events = []

    def start(n):
        events.append(f"start {n}")
        return n

    def wait(n):
        events.append(f"wait {n}")
        return n

    for n in one_ahead(range(3), start, wait):
        events.append(f"use {n}")
    assert events == [
        "start 0", "start 1", "wait 0", "use 0", "start 2", "wait 1", "use 1", "wait 2", "use 2",
    ]  # fmt: skip
    assert list(one_ahead([], start, wait)) == []


def test_a_failure_comes_when_its_batch_is_made():
    def failing():
        yield 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(one_ahead(failing(), int, int))


def test_batches_go_to_a_device_or_stay():
    made = [((torch.zeros(2), {"a": TensorImage(torch.ones(1))}), None, [])]
    ((x, named), _, _), *_ = on_device(made, torch.device("meta"))
    assert x.device.type == named["a"].device.type == "meta"
    assert type(named["a"]) is TensorImage
    assert next(on_device(made, None))[0] is made[0][0]


def test_to_cuda_batches_pass_through_page_locked_memory(monkeypatch):
    calls = []

    class Copies:
        def __init__(self, device, pin):
            calls.append((device.type, pin))

        def start(self, made):
            return made

        wait = start

    monkeypatch.setattr(transfer, "CudaCopies", Copies)
    assert list(on_device([(1, None, [])], torch.device("cuda"), pin=True)) == [(1, None, [])]
    assert calls == [("cuda", True)]
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda t: False)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: t + 1)
    image, text = pinned((TensorImage(torch.zeros(1)), "a"))
    assert type(image) is TensorImage
    assert image.item() == 1
    assert text == "a"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_copies_to_cuda_are_whole_when_they_are_used():
    made = [((torch.full((1000, 100), float(i)), TensorImage(torch.ones(3))), None, []) for i in range(20)]
    for i, ((x, image), _, _) in enumerate(on_device(made, torch.device("cuda"))):
        assert type(image) is TensorImage
        assert x.device.type == "cuda"
        assert (x == i).all()

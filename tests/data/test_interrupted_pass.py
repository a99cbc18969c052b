"""Ctrl-C at any line of a pass over a loader: what is drawn, read and imported afterwards does not know of it."""

import sys

import pytest
from striking import struck

from layered.basics import DataLoader
from layered.data.deferral import Deferral, deferral
from layered.foundation import draw
from layered.foundation.seeds import current_tickets


class Made(DataLoader):
    def create_batches(self, samples):
        for row in samples:
            draw()
            yield row


def shift(x):
    return x + draw()


LOADERS = {
    "items": lambda: DataLoader([1.0, 2.0], bs=1, after_item=shift, after_batch=shift),
    "batches of an override": lambda: Made([1.0, 2.0], bs=1),
}


@pytest.mark.parametrize("name", LOADERS)
def test_nothing_of_a_batch_is_left(name):
    dl = LOADERS[name]()
    whole = struck(lambda: list(dl), 0)
    assert not whole.ended
    finders = list(sys.meta_path)
    for at in range(1, whole.lines + 1):
        struck(lambda: list(dl), at)
        assert current_tickets().place is None, f"Ctrl-C at line {at} of {whole.lines}"
        assert deferral() is Deferral.NOTHING, f"Ctrl-C at line {at} of {whole.lines}"
        assert sys.meta_path == finders, f"Ctrl-C at line {at} of {whole.lines}"

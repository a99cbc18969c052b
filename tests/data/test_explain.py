"""`summary` builds a batch step by step and stops where it fails."""

from __future__ import annotations

import pytest
import torch

from layered.data import CategoryBlock, DataBlock, EndSplitter, Normalize, TransformBlock
from layered.foundation import BadItem, MixedSizes, TensorImage, Transform


def size(n):
    return "small" if n < 3 else "large"


def describe(make, **kwargs):
    return DataBlock((TransformBlock, CategoryBlock), get_x=make, get_y=size, splitter=EndSplitter(0.25), **kwargs)


def test_every_step_says_what_it_made(capsys):
    block = describe(lambda n: TensorImage(torch.full((1, 2, 2), float(n))), batch_tfms=Normalize())
    block.summary([1, 2, 3, 4], bs=3)
    out = capsys.readouterr().out
    for part in (
        "Found 4 items, split into 3 and 1",
        "Setting up Categorize()",
        "the item is          int 1",
        "gives TensorImage 1×2×2 float32",
        "gives TensorCategory scalar int64",
        "ToTensor()",
        "Collating 3 samples",
        "the batch is         (TensorImage 3×1×2×2 float32, TensorCategory 3 int64)",
        "Normalize()",
    ):
        assert part in out, part
    assert block.batch_tfms[0].mean is None


def test_a_failure_stands_where_it_happens(capsys):
    block = describe(lambda n: 1 / (n - 1))
    with pytest.raises(
        BadItem, match=r"making the input of item 0 of the training items \(int 1\), in step 1"
    ) as caught:
        block.summary([1, 2, 3, 4])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "FAILED on int 1: ZeroDivisionError" in capsys.readouterr().out
    dls = block.dataloaders([1, 2, 3, 4], bs=3, shuffle=False, num_workers=0, device="cpu")
    with pytest.raises(BadItem) as from_loader:
        next(iter(dls.train))
    assert from_loader.value.problem == caught.value.problem


@pytest.mark.parametrize("only", ["training", "validation"])
def test_a_summary_fails_where_a_loader_would_though_the_first_sample_is_fine(only, capsys):
    class Picky(Transform):
        split_idx = {"training": 0, "validation": 1}[only]

        def encodes(self, x: TensorImage):
            raise ValueError("too late")

    block = describe(lambda n: TensorImage(torch.zeros(1, 2, 2)), batch_tfms=Picky())
    with pytest.raises(Exception, match="too late"):
        block.summary([1, 2, 3, 4], bs=3)
    assert "Collating 3 samples" in capsys.readouterr().out


def test_samples_that_do_not_fit_together_fail_when_they_are_collated(capsys):
    with pytest.raises(MixedSizes, match="Resize"):
        describe(lambda n: TensorImage(torch.zeros(1, n, n))).summary([1, 2, 3, 4])
    assert capsys.readouterr().out.rstrip().endswith("Collating 3 samples")

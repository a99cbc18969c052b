"""Habits of other libraries are switched on by hand, and by nothing else."""

import subprocess
import sys

import torch
from torch.testing import assert_close

from layered.compat import patch_tensors
from layered.foundation import TensorBase, pca


def test_importing_patches_nothing():
    code = "import layered.compat, torch; print(hasattr(torch.Tensor, 'pca'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_patched_tensors_have_their_components_as_a_method(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pca", None, raising=False)  # so that it is taken away afterwards
    patch_tensors()
    once = torch.Tensor.pca
    patch_tensors()
    assert torch.Tensor.pca is once
    x = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    assert_close(x.pca(3), pca(x, 3))
    assert type(TensorBase(x).pca()) is torch.Tensor
    assert x.pca().shape == (20, 2)

import pytest
import torch


@pytest.fixture
def batches():
    gen = torch.Generator().manual_seed(3)
    return [(torch.randn(n, 2, generator=gen), torch.randint(0, 2, (n,), generator=gen)) for n in (4, 4, 3)]


@pytest.fixture
def whole(batches):
    return torch.cat([p for p, _ in batches]), torch.cat([t for _, t in batches])

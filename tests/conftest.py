"""What all tests share. Its being here lets them import `counts`."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "soak: tries more where LAYERED_SOAK=1; `make soak` runs these alone")

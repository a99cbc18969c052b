"""How much the tests of chance try: little in `make test`, much in `make soak`."""

import os

LONG = os.environ.get("LAYERED_SOAK", "") not in ("", "0")


def soak(short: int, long: int) -> int:
    """`short` in `make test`, `long` in `make soak`; tests that use it are marked `@pytest.mark.soak`."""
    return long if LONG else short

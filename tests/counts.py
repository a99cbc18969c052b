"""How much the tests of chance try: little in `make test`, much in `make soak`."""

import os
import random
import time

LONG = os.environ.get("LAYERED_SOAK", "") not in ("", "0")
SEED = int(os.environ.get("LAYERED_SEED", time.time_ns() % 10**9 if LONG else 7))


def soak(short: int, long: int) -> int:
    """`short` in `make test`, `long` in `make soak`; tests that use it are marked `@pytest.mark.soak`."""
    return long if LONG else short


def chance(name: str, number: int) -> random.Random:
    """What decides about try `number` of a harness: the same for the same `LAYERED_SEED`."""
    return random.Random(f"{SEED} {name} {number}")

"""`python -m benchmarks [name ...]`: run all scripts, or those named; the exit status is 1 if any budget is broken."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

from benchmarks.runner import Result


def main(names: list[str]) -> int:
    found = [m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)])]
    scripts = names or [name for name in found if name not in ("runner", "__main__")]
    results: list[Result] = []
    for name in scripts:
        results += importlib.import_module(f"benchmarks.{name}").main()
    over = [result for result in results if not result.ok]
    print(f"{len(results)} measured, {len(over)} over budget")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m benchmarks [name ...]`: run all scripts, or those named; the exit status is 1 if any budget is broken.

Each script runs in a process of its own: what one of them imports, or a peer patches, does not touch the others.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

from benchmarks.runner import Result


def main(names: list[str]) -> int:
    if len(names) == 1:
        return run(names[0])
    found = [m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)])]
    scripts = names or [name for name in found if name not in ("runner", "__main__")]
    failed = [name for name in scripts if subprocess.run([sys.executable, "-m", "benchmarks", name]).returncode]
    print(f"{len(scripts)} scripts; over budget or failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def run(name: str) -> int:
    results: list[Result] = importlib.import_module(f"benchmarks.{name}").main()
    over = [result for result in results if not result.ok]
    print(f"{name}: {len(results)} measured, {len(over)} over budget", flush=True)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

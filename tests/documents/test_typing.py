"""What is misspelt in a callback, in a function on a learner or in a call is refused by a type checker."""

import re
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent / "typing_fixtures"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def refused() -> dict[str, set[int]]:
    """The lines that `mypy --strict` refuses, by file."""
    api = pytest.importorskip("mypy.api")
    files = [str(file) for file in sorted(FIXTURES.glob("*.py"))]
    cache = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    out, err, _ = api.run(["--strict", "--no-error-summary", *cache, *files])
    found = re.findall(r"^(?:.*/)?(\w+\.py):(\d+): error:", out, re.MULTILINE)
    assert found, out + err
    lines: dict[str, set[int]] = {}
    for file, line in found:
        lines.setdefault(file, set()).add(int(line))
    return lines


def test_every_misspelt_line_is_refused_and_no_other(refused):
    lines = (FIXTURES / "misspelt.py").read_text().splitlines()
    marked = {number for number, line in enumerate(lines, 1) if "  # no: " in line}
    assert len(marked) >= 30
    assert refused["misspelt.py"] == marked


def test_the_same_lines_spelt_right_are_accepted(refused):
    assert refused.keys() == {"misspelt.py"}

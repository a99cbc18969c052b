"""Files are data: what could run code that a file brings, or import what it names, stands in a short list with its reason."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUNS_CODE = re.compile(
    r"torch\.load\(|pickle\.loads?\(|\bUnpickler\b|(?<![.\w])(?<!def )(?:eval|exec)\(|__import__|\bimport_module\("
)
ALLOWED = {  # how often, and why no file decides what happens there
    "foundation/dispatch.py": (1, "annotations of functions that are in memory already"),
    "files/pickled.py": (1, "load_pickle(trust=True), which says so"),
    "foundation/optional.py": (3, "optional packages, by names that stand in our code"),
    "foundation/parallel.py": (1, "an error that this process has just pickled"),
    "foundation/transform.py": (1, "our own classes, when a process unpickles what another one sent"),
    "testing/contracts.py": (2, "copies made in the same line"),
    "vision/reading.py": (1, "torchvision.io, by name"),
}


def test_nothing_in_the_library_runs_or_imports_what_a_file_says():
    found = {
        file.relative_to(ROOT / "layered").as_posix(): len(hits)
        for file in (ROOT / "layered").rglob("*.py")
        if (hits := RUNS_CODE.findall(file.read_text()))
    }
    assert found == {file: count for file, (count, _) in ALLOWED.items()}


def test_the_search_finds_what_it_is_for():
    for line in ("torch.load(path)", "pickle.load(f)", "x = eval(text)", "exec(text)", "importlib.import_module(name)"):
        assert RUNS_CODE.search(line)
    for line in ("model.eval()", "def eval(self)", "def exec(", "read_pickle(f)"):
        assert not RUNS_CODE.search(line)

"""Importing is free: a fresh process that imports the library is as it was, but for the library."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = (
    "pandas",
    "matplotlib",
    "PIL",
    "torchvision",
    "sklearn",
    "scipy",
    "spacy",
    "timm",
    "kornia",
    "albumentations",
    "transformers",
    "safetensors",
    "accelerate",
    "optuna",
)

LAYERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
FLOORS = [[package.strip() for package in layer.split("|")] for layer in reversed(LAYERS)]  # from the ground up
LOW_FLOORS = FLOORS[:5]  # foundation to callback, inference and integrations
IMPORT_ALL = """
import importlib, pkgutil

def import_all(packages):
    for package in packages:
        root = importlib.import_module(package)
        for found in pkgutil.walk_packages(getattr(root, "__path__", ()), package + "."):
            importlib.import_module(found.name)
"""


def in_fresh_process(code: str) -> Any:
    """What `code` prints as JSON, run by a Python that has imported nothing."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL + code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def packages_of(floors: list[list[str]]) -> list[str]:
    return [package for floor in floors for package in floor]


def test_the_bare_package_imports_nothing():
    new = in_fresh_process("""
import sys, json
old = set(sys.modules)
import layered
print(json.dumps(sorted(set(sys.modules) - old)))
""")
    assert new == ["layered", "layered.version"]


def test_floors_up_to_the_callbacks_pull_in_no_heavy_package():
    pulled = in_fresh_process(f"""
import sys, json, torch, numpy
old = set(sys.modules)
import_all({packages_of(LOW_FLOORS)})
print(json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - old}} & set({HEAVY}))))
""")
    assert not pulled, f"call `require` inside the function, or use `lazy`, for {pulled}"


def test_the_vision_facade_adds_only_torchvision_and_pillow():
    pulled = in_fresh_process(f"""
import sys, json, torch, torchvision
old = set(sys.modules)
import layered.vision.all
print(json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - old}} & set({HEAVY}))))
""")
    assert not pulled


@pytest.mark.parametrize("number", range(len(FLOORS)), ids=lambda n: " ".join(p.partition(".")[2] for p in FLOORS[n]))
def test_a_floor_imports_with_the_floors_above_blocked(number):
    above = packages_of(FLOORS[number + 1 :])
    imported = in_fresh_process(f"""
import sys, json

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name in {above} or name.startswith(tuple(package + "." for package in {above})):
            raise ImportError(f"{{name}} stands on a floor above")

sys.meta_path.insert(0, Blocked())
import_all({FLOORS[number]})
print(json.dumps([name for name in sys.modules if name.startswith("layered.")]))
""")
    assert set(FLOORS[number]) <= set(imported)


@pytest.fixture(scope="module")
def footprint() -> dict[str, Any]:
    """What importing the whole library did to a process that had torch, torchvision, Pillow and scikit-learn.

    The last one changes filters and draws when it is imported, and `layered.sklearn` is made of its classes.
    """
    return in_fresh_process(f"""
import hashlib, json, multiprocessing, os, pathlib, pickle, random, signal, sys, threading, warnings
import numpy, torch, torchvision, PIL.Image, sklearn.model_selection

CLASSES = [torch.Tensor, torch.nn.Module, torch.utils.data.DataLoader, pathlib.Path, pathlib.PurePath, PIL.Image.Image]
MODULES = [torch, torch.nn, torch.nn.functional, numpy, PIL.Image, random, warnings]

def state():
    generators = random.getstate(), numpy.random.get_state(), torch.get_rng_state().tolist()
    return {{
        "random numbers": hashlib.sha256(pickle.dumps(generators)).hexdigest(),
        "initial seed": torch.initial_seed(),
        "warning filters": [str(rule) for rule in warnings.filters],
        "environment": dict(os.environ),
        "signal handlers": [str(signal.getsignal(s)) for s in signal.valid_signals()],
        "threads": [thread.name for thread in threading.enumerate()],
        "threads of torch": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "start method": multiprocessing.get_start_method(allow_none=True),
        "default dtype": str(torch.get_default_dtype()),
        "determinism": [torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark],
        "hooks": [str(sys.excepthook), str(sys.displayhook), len(sys.path_hooks), len(sys.meta_path)],
        "cuda": torch.cuda.is_initialized(),
        **{{f"attributes of {{c.__module__}}.{{c.__qualname__}}": attributes(c) for c in CLASSES}},
        **{{f"functions of {{m.__name__}}": functions(m) for m in MODULES}},
    }}

def attributes(kind):
    return sorted(f"{{name}} {{id(value)}}" for name, value in vars(kind).items() if not name.startswith("_abc_"))

def functions(module):
    return sorted(f"{{name}} {{id(value)}}" for name, value in vars(module).items() if callable(value))

WATCHED = ("socket", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "_thread.start_new_thread",
           "os.mkdir", "os.remove", "os.rename", "urllib", "http", "ftplib", "tempfile")
seen = []

def listen(event, args):
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+") and ".pyc" not in str(args[0])
    if watching and (event.startswith(WATCHED) or writes):
        seen.append(f"{{event}} {{args!r}}"[:200])

watching = False
sys.addaudithook(listen)
sys.dont_write_bytecode = True
before = state()
watching = True
import_all({packages_of(FLOORS)})
watching = False
after = state()
print(json.dumps({{"done": seen, "changed": [key for key in before if before[key] != after[key]]}}))
""")


def test_importing_starts_no_thread_or_process_opens_no_socket_and_writes_no_file(footprint):
    assert footprint["done"] == []


def test_importing_leaves_generators_warnings_environment_and_other_peoples_classes_alone(footprint):
    assert footprint["changed"] == []


EXTRAS = ("quickstart", "medical", "widgets", "text", "hf", "sentencepiece", "onnx", "search", "trackers")


def test_the_declared_dependencies_are_those_that_are_imported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for name in EXTRAS for line in project["optional-dependencies"][name]]
    declared = [*project["dependencies"], *extras]
    imported_as = {"pillow": "PIL", "scikit-learn": "sklearn"}
    packages = {re.split("[<>=]", line)[0] for line in declared}
    names = {imported_as.get(package, package.replace("-", "_")) for package in packages}
    # a notebook has the first, timm brings the second, the others are there where their transforms or runs are
    others = {"IPython", "huggingface_hub", "albumentations", "kornia", "mlflow", "wandb"}
    files = [file.read_text() for file in (ROOT / "layered").rglob("*.py")]
    found = re.findall(r'^ *(?:import|from) (\w+)(?:[. ].*)?$|(?:lazy|require)\("(\w+)', "\n".join(files), re.MULTILINE)
    used = {name for pair in found for name in pair if name} - sys.stdlib_module_names - {"layered"}
    assert {name for name in used if importlib.util.find_spec(name) is not None} - others == names & used
    assert names <= used

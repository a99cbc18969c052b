"""Names of what users define, and versions of what files describe."""

from types import new_class

import pytest
from torch import nn

from layered.files import exportable, upgraded
from layered.foundation import (
    BadArgument,
    BadFile,
    NewerFormat,
    Recorded,
    Transform,
    builders,
    functions,
    losses,
    modules,
    transforms,
)


def double(x):
    return 2 * x


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    for registry in (builders, functions, losses, modules, transforms):
        monkeypatch.setattr(registry, "_items", dict(registry._items))


@pytest.mark.parametrize(("base", "registry"), [(Transform, transforms), (nn.Module, modules), (Recorded, losses)])
def test_a_class_is_registered_by_what_it_derives_from(base, registry):
    kind = exportable("tests.Own")(new_class("Own", (base,)))
    assert registry.get("tests.Own") is kind


def test_a_class_defined_again_as_in_a_notebook_cell_replaces_the_old_one():
    exportable("tests.Own")(new_class("Own", (Transform,)))
    kind = exportable("tests.Own")(new_class("Own", (Transform,)))
    assert transforms.get("tests.Own") is kind


def test_functions_and_model_builders_are_kept_apart():
    exportable("tests.double")(double)
    exportable("tests.arch", builds_model=True)(double)
    assert functions.get("tests.double") is builders.get("tests.arch") is double
    assert "tests.arch" not in functions


def test_what_another_process_could_not_find_is_refused():
    def inner(x):
        return x

    for item, way_out in ((lambda x: x, "def"), (inner, "out of the function"), (3, "3"), (int, "int")):
        with pytest.raises(BadArgument, match=way_out):
            exportable("tests.item")(item)
    assert "tests.item" not in functions


class Second:
    version = 2

    @classmethod
    def upgrade(cls, version, args):
        return ({"size": args["width"]},)


def test_an_older_description_is_upgraded_by_the_class():
    assert upgraded(Second, "tests.Second", 1, {"width": 3}) == ({"size": 3},)
    assert upgraded(Second, "tests.Second", 2, {"size": 3}) == ({"size": 3},)


def test_a_later_description_is_refused_by_name():
    with pytest.raises(NewerFormat, match=r"tests\.Second"):
        upgraded(Second, "tests.Second", 3, {})


@pytest.mark.parametrize("version", [0, -1, "1", None, True + 0.5])
def test_a_version_that_is_none_is_refused(version):
    with pytest.raises(BadFile):
        upgraded(Second, "tests.Second", version, {})

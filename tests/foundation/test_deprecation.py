"""What will be removed warns for a minor release, names what to write instead, and is found when its time is over."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import layered
from layered.foundation import BadArgument, BadValue, checked, deprecated, deprecation, expired, renamed_argument


@pytest.fixture(autouse=True)
def own_list(request, monkeypatch):
    if "library" not in request.node.name:
        monkeypatch.setattr(deprecation, "deprecations", [])


def test_a_function_warns_where_it_is_used_and_still_works():
    @deprecated("use `new`", since="0.2", removed_in="0.3")
    def old(x):
        """Twice x."""
        return 2 * x

    with pytest.warns(FutureWarning, match=r"old will be removed in layered 0\.3: use `new`") as caught:
        assert old(3) == 6
    assert caught[0].filename == __file__
    assert old.__doc__ == "Twice x."


def test_a_class_warns_when_it_is_made_and_is_still_a_class():
    @deprecated("use `New`", since="0.2", removed_in="0.3")
    class Old:
        def __init__(self, x):
            self.x = x

    with pytest.warns(FutureWarning, match="use `New`"):
        assert Old(3).x == 3
    assert isinstance(Old, type)


def test_an_argument_may_still_have_its_old_name():
    @renamed_argument("size", "width", since="0.2", removed_in="0.3")
    @checked
    def make(width=1):
        return width

    with pytest.warns(FutureWarning, match=r"'size' of make will be refused in layered 0\.3: use 'width'") as caught:
        assert make(size=4) == 4
    assert caught[0].filename == __file__
    assert make(width=5) == 5
    with pytest.raises(BadArgument, match="under its old name 'size' too"):
        make(size=4, width=5)


@pytest.mark.parametrize("removed_in", ["0.2", "0.2.5", "0.1"])
def test_nothing_is_removed_without_a_minor_release_of_warnings(removed_in):
    with pytest.raises(BadValue, match="must warn for a minor release"):
        deprecated("use `new`", since="0.2", removed_in=removed_in)(lambda: None)


@pytest.mark.parametrize(
    ("version", "found"),
    [("0.2.0", []), ("0.2.9", []), ("0.3.0", ["0.3"]), ("0.10.0", ["0.3", "0.10"]), ("1.0.0", ["0.3", "0.10"])],
)
def test_what_should_be_gone_is_found(version, found):
    for removed_in in ("0.3", "0.10"):
        deprecated("use `new`", since="0.2", removed_in=removed_in)(lambda: None)
    assert [gone.removed_in for gone in expired(version)] == found


def test_nothing_in_the_library_is_overdue():
    for module in pkgutil.walk_packages(layered.__path__, "layered."):
        importlib.import_module(module.name)
    overdue = [gone for gone in expired(layered.__version__) if gone.name.startswith("layered.")]
    assert overdue == [], "remove these, and say so in CHANGELOG.md under Removed"

"""The files for people and services around the code agree with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import layered

ROOT = Path(__file__).parents[2]
FORMS = [*sorted((ROOT / ".github").rglob("*.yml")), ROOT / "CITATION.cff"]


@pytest.mark.parametrize("file", FORMS, ids=lambda file: file.name)
def test_it_is_yaml(file):
    assert isinstance(yaml.safe_load(file.read_text("utf-8")), dict)


def test_the_citation_is_of_this_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == layered.__version__


def test_each_question_of_an_issue_has_a_label_and_a_name_of_its_own():
    for form in (ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"):
        questions = yaml.safe_load(form.read_text("utf-8"))["body"]
        assert all(question["attributes"]["label"] for question in questions)
        assert len({question["id"] for question in questions}) == len(questions)

"""A model goes to the hub as one file and its card, and comes back as that file alone; a hub on this machine stands in."""

import re
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from fake_hub import TOKEN, fake_hub

from layered.foundation import BadFile, BadValue, CannotSave, MissingDependency, NotFoundPath, Offline
from layered.training import load_learner

PAGE = Path(__file__).parents[2] / "docs/hub.md"


def use(monkeypatch, url):
    """Let the client ask this address: what HF_ENDPOINT does where it is set before the import."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with fake_hub() as hub:
        use(monkeypatch, hub.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("LAYERED_OFFLINE", "")
        yield hub


def test_a_model_comes_back_from_the_hub_with_the_same_predictions(learn, hub, pictures, tmp_path, monkeypatch):
    address = learn.push_to_hub("me/colours", about="It tells colours apart.", licence="mit")
    files = hub.files("me/colours")
    assert sorted(files) == ["README.md", "model.layered"]
    card = files["README.md"].decode()
    assert card.startswith('---\nlibrary_name: "layered"\n')
    assert "It tells colours apart." in card
    assert 'load_learner("hf://me/colours")' in card
    hub.asked.clear()
    again = load_learner("hf://me/colours")
    assert {line.rpartition("/")[2] for line in hub.asked} == {"model.layered"}  # nothing else is fetched
    image = pictures / "red" / "red_0.png"
    torch.testing.assert_close(again.predict(image)[2], learn.predict(image)[2])
    assert str(again.path) == "."
    assert address == f"hf://me/colours@{hub.commits['me/colours'][-1][0]}"
    learn.push_to_hub("me/colours", text="mine")
    assert hub.files("me/colours")["README.md"] == b"mine"
    torch.testing.assert_close(load_learner(address).predict(image)[2], learn.predict(image)[2])
    assert not (tmp_path / "model.layered").exists()


def test_what_was_fetched_is_there_offline(learn, hub, monkeypatch):
    learn.push_to_hub("me/colours", text="")
    load_learner("hf://me/colours")
    monkeypatch.setenv("LAYERED_OFFLINE", "1")
    hub.asked.clear()
    load_learner("hf://me/colours")
    with pytest.raises(Offline):
        load_learner("hf://me/other")
    assert hub.asked == []


def test_what_the_hub_does_not_have_is_said(hub):
    with pytest.raises(NotFoundPath, match="there is no repository 'me/nothing'"):
        load_learner("hf://me/nothing")
    hub.commits["me/bert"] = [("a" * 40, {"model.safetensors": b"x", "README.md": b"x"})]
    with pytest.raises(NotFoundPath, match="is not a model of this library"):
        load_learner("hf://me/bert")
    with pytest.raises(NotFoundPath, match="no such revision"):
        load_learner("hf://me/bert@v9")
    hub.commits["me/other"] = [("b" * 40, {"model.layered": b"something else"})]
    with pytest.raises(BadFile):
        load_learner("hf://me/other")


@pytest.mark.parametrize(
    "address", ["hf://", "hf://x", "hf://me/x/y", "hf://me/../x", "hf://me/x@", "hf://me/x y", "hf:///me/x"]
)
def test_other_addresses_are_refused(address):
    with pytest.raises(BadValue, match="not the name of a repository"):
        load_learner(address)


def test_pushing_is_refused_without_a_token_or_a_right_to(learn, hub, monkeypatch):
    with pytest.raises(CannotSave, match="you may not write there"):
        learn.push_to_hub("others/colours", text="")
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(CannotSave, match="you are not logged in"):
        learn.push_to_hub("me/colours", text="")
    use(monkeypatch, "http://127.0.0.1:1")
    with pytest.raises(CannotSave, match="could not be pushed"):
        learn.push_to_hub("me/colours", text="")


def test_the_page_runs(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    assert names["probabilities"].shape == (2,)
    assert "It has seen sizes" in names["card"]
    assert names["address"].startswith("hf://me/sizes@")


def test_without_the_package_it_is_said_what_to_install(learn, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependency, match="huggingface_hub"):
        learn.push_to_hub("me/colours")
    with pytest.raises(MissingDependency, match="huggingface_hub"):
        load_learner("hf://me/colours")

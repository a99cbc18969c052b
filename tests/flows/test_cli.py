"""The command line: help, exit codes that scripts can trust, and a model from a folder to a prediction elsewhere."""

import csv
import json
import os
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image

from layered.cli.main import main
from layered.cli.shell import in_shell
from layered.foundation import BadValue
from layered.training import load_learner


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Bright and dark pictures, 10 of each."""
    root, noise = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, low in (("bright", 150), ("dark", 0)):
        (root / name).mkdir()
        for i in range(10):
            pixels = noise.integers(low, low + 100, (32, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def layered(*args, cwd):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "layered.cli.main", *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


TRAIN = ["--arch", "resnet18", "--from-scratch", "--size", "32", "--epochs", "1", "--bs", "4"]


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    where = tmp_path_factory.mktemp("trained")
    done = layered("train", "vision", folder, *TRAIN, "--out", "out/colours.layered", cwd=where)
    assert done.returncode == 0, done.stderr
    return where / "out" / "colours.layered", done


def test_training_shows_epochs_and_what_to_type_next(trained, folder):
    file, done = trained
    assert file.is_file()
    assert "error_rate" in done.stdout
    assert "16 training images, 4 validation images, 2 classes: bright, dark" in done.stdout
    (command,) = (line.strip() for line in done.stdout.split("\n") if line.startswith("  layered predict "))
    assert shlex.split(command)[2:3] == [str(file)]
    assert sorted(p.name for p in file.parent.parent.iterdir()) == ["out"]
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_another_folder_predicts_and_names_what_it_could_not(trained, folder, tmp_path):
    images = [folder / "dark" / "0.png", folder / "bright" / "1.png"]
    done = layered("predict", trained[0], *images, "missing.png", cwd=tmp_path)
    lines = [line.split("\t") for line in done.stdout.strip().split("\n")]
    assert [line[0] for line in lines] == list(map(str, images))
    assert all(line[1] in ("bright", "dark") and 0.5 <= float(line[2]) <= 1 for line in lines)
    assert done.returncode == 1
    assert "missing.png" in done.stderr
    assert "1 of 3 images" in done.stderr
    assert "Traceback" not in done.stderr


def test_predictions_as_json(trained, folder, capsys):
    image = str(folder / "dark" / "3.png")
    assert main(["predict", str(trained[0]), image, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["image"] == image
    assert set(found["probabilities"]) == {"bright", "dark"}
    assert sum(found["probabilities"].values()) == pytest.approx(1)
    assert found["prediction"] == max(found["probabilities"], key=found["probabilities"].get)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["demo"],
        ["train"],
        ["train", "vision"],
        ["train", "tabular"],
        ["train", "text"],
        ["train", "collab"],
        ["predict"],
    ],
    ids=" ".join,
)
def test_every_command_helps(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert told.startswith(f"usage: {' '.join(['layered', *command])}")
    if command == ["train", "vision"]:
        for option in ("--arch", "--epochs", "--size", "--out", "(default: 224)", "(default: resnet18)"):
            assert option in told


@pytest.mark.parametrize(
    "command",
    [
        [], ["trian"], ["train", "sounds", "x"], ["train", "vision"], ["train", "vision", "x", "--epoch", "0"], ["predict", "m"],
        ["train", "vision", "x", "--size", "big"], ["train", "vision", "x", "--sizes", "3"], ["demo", "--epochs", "-1"],
        ["train", "vision", "x", "--lr", "0"], ["train", "tabular"], ["predict", "m", "a.png", "--json", "--csv"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_is_not_understood_ends_with_2(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


def failure(capsys, *command):
    assert main([str(part) for part in command]) == 1
    told = capsys.readouterr()
    assert told.err.startswith("layered: ")
    assert "Traceback" not in told.err
    return told.err


def unreachable(*args, **kwargs):
    raise ConnectionError("no route to host")


def test_what_is_wrong_with_the_data_ends_with_1_and_a_fix(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "nowhere" in failure(capsys, "train", "vision", "nowhere", *TRAIN)
    (tmp_path / "empty").mkdir()
    assert "empty" in failure(capsys, "train", "vision", "empty", *TRAIN)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    assert "--from-scratch" in failure(capsys, "train", "vision", folder, "--size", "32", "--bs", "4")
    assert "did you mean 'resnet18'" in failure(capsys, "train", "vision", folder, "--arch", "resnt18")
    assert "missing.pth" in failure(capsys, "train", "vision", folder, *TRAIN, "--weights", "missing.pth")
    assert "--valid-pct 0.015" in failure(capsys, "train", "vision", folder, *TRAIN, "--valid-pct", "1.5")
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]


def test_a_broken_image_stops_the_run_by_name_or_is_skipped(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("bright", "dark"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for image in (folder / name).iterdir():
            (tmp_path / "own" / name / image.name).write_bytes(image.read_bytes())
    broken = tmp_path / "own" / "dark" / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    told = failure(capsys, "train", "vision", "own", *TRAIN)
    assert "broken.png" in told
    assert "--skip-bad" in told
    assert not (tmp_path / "model.layered").exists()
    with pytest.warns(UserWarning, match=r"broken\.png"):
        assert main(["train", "vision", "own", *TRAIN, "--skip-bad"]) == 0
    assert (tmp_path / "model.layered").exists()


def test_a_place_that_cannot_be_written_is_found_before_training(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.layered").mkdir()
    monkeypatch.setattr("layered.training.learner.Learner.fit_one_cycle", lambda *args: pytest.fail("it trained first"))
    for out in ("file/model.layered", "folder.layered"):
        told = failure(capsys, "train", "vision", folder, *TRAIN, "--out", out)
        assert "could not write" in told
        assert "fix" in told


def test_files_that_are_no_models_are_refused(tmp_path, capsys):
    file = tmp_path / "model.layered"
    assert "model.layered" in failure(capsys, "predict", file, "a.png")
    file.write_bytes(b"\x80\x04cposix\nsystem\n(S'touch gotcha'\ntR.")
    assert "safetensors" in failure(capsys, "predict", file, "a.png")


def test_ctrl_c_ends_with_130(monkeypatch, capsys, trained):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("layered.cli.predict.load_learner", interrupted)
    assert main(["predict", str(trained[0]), "a.png"]) == 130
    assert capsys.readouterr().err == "layered: interrupted\n"


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_a_reader_that_has_seen_enough_gets_no_traceback(trained, folder):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "layered.cli.main", "predict", trained[0], folder / "dark" / "0.png"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_folder_of_a_few_images_is_enough_and_its_name_may_hold_blanks(folder, tmp_path):
    for name, new in (("bright", "B & C"), ("dark", "it's dark")):
        (tmp_path / "my data" / new).mkdir(parents=True)
        for i in range(2):
            (tmp_path / "my data" / new / f"{i}.png").write_bytes((folder / name / f"{i}.png").read_bytes())
    done = layered("train", "vision", "my data", *TRAIN[:-1], 64, "--out", "my model", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--bs 3: the 3 training images do not fill a batch of 64" in done.stdout
    assert "--valid-pct 0.250: 0.2 of 4 images is none" in done.stdout
    (hint,) = (line for line in done.stdout.split("\n") if line.startswith("  layered predict "))
    _, verb, model, image = shlex.split(hint)
    done = layered(verb, model, image, "my data", "--csv", cwd=tmp_path)
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert len(rows) == 5
    assert sum(float(rows[0][name]) for name in ("B & C", "it's dark")) == pytest.approx(1)


def test_the_two_phases_of_fine_tuning_are_named(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(torchvision.models.resnet18().state_dict(), "weights.pth")
    options = [option for option in TRAIN if option != "--from-scratch"]
    assert main(["train", "vision", str(folder), *options, "--weights", "weights.pth"]) == 0
    shown = capsys.readouterr().out
    assert shown.index("Phase 1: the new head learns") < shown.index("Phase 2: all layers learn")


def test_tables_have_their_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=40)
    pd.DataFrame({"x": x, "y": np.where(x > 0, "yes", "no")}).to_csv("a b.csv", index=False, sep=";")
    pd.DataFrame({"y": 2 * x, "x": x}).to_csv("numbers.csv", index=False)
    assert main(["train", "tabular", "a b.csv", "--epochs", "1", "--out", "classes"]) == 0
    assert "the target is 'y': 2 classes" in capsys.readouterr().out
    assert main(["predict", "classes.layered", "a b.csv", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["row"] for row in found] == list(range(40))
    preds, _ = load_learner("classes.layered").get_preds(
        dl=load_learner("classes.layered").dls.test_dl(pd.DataFrame({"x": x}))
    )
    assert [row["probabilities"]["yes"] for row in found] == pytest.approx(preds[:, 1].tolist())
    assert all(row["prediction"] == max(row["probabilities"], key=row["probabilities"].get) for row in found)
    assert main(["train", "tabular", "numbers.csv", "--target", "y", "--epochs", "1", "--bs", "8"]) == 0
    capsys.readouterr()
    assert main(["predict", "model.layered", "numbers.csv", "--csv"]) == 0
    assert capsys.readouterr().out.startswith("row,prediction\n0,")
    assert "did you mean 'x'" in failure(capsys, "train", "tabular", "numbers.csv", "--target", "xs")


def test_ratings_have_their_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    ratings = pd.DataFrame(
        {"stars": rng.integers(1, 6, 60), "film": rng.choice(list("abcdef"), 60), "who": rng.integers(0, 8, 60)}
    )
    ratings.to_csv("ratings.csv", index=False)
    columns = ["--user", "who", "--item", "film", "--rating", "stars"]
    assert main(["train", "collab", "ratings.csv", *columns, "--epochs", "1"]) == 0
    capsys.readouterr()
    assert main(["predict", "model.layered", "ratings.csv"]) == 0
    found = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(found) == 60
    assert all(0.6 < float(stars) < 5.4 for _, stars in found)


@pytest.fixture
def reviews(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = [f"the film was {word} and {word}" for word in ("good", "bad", "great", "dull") * 12]
    table = pd.DataFrame({
        "number": range(48), "text": texts, "label": ["pos", "neg"] * 24, "tags": ["a", "a b", "b", "b"] * 12,
        "stars": np.linspace(0.1, 5, 48),
    })  # fmt: skip
    table.to_csv("reviews.csv", index=False)
    return table


SMALL_TEXT = ["--text-col", "text", "--from-scratch", "--epochs", "4", "--bs", "8", "--lr", "0.02"]


@pytest.mark.parametrize(
    ("options", "said", "predicted"),
    [
        (["--label-col", "label"], "the target is 'label': 2 classes", {"pos", "neg"}),
        (["--label-col", "tags", "--label-delim", " "], "the target is 'tags': 2 classes", {"a", "b", "a;b", ""}),
        ([], "the target is 'stars': numbers", None),
    ],
)
def test_texts_have_their_commands(reviews, capsys, options, said, predicted):
    assert main(["train", "text", "reviews.csv", *SMALL_TEXT, *options]) == 0
    assert said in capsys.readouterr().out
    assert main(["predict", "model.layered", "reviews.csv", "--csv"]) == 0
    names, *found = (line.split(",") for line in capsys.readouterr().out.splitlines())
    assert len(found) == 48
    if predicted is None:
        assert all(float(stars) for _, stars in found)
        return
    assert names[:2] == ["row", "prediction"]
    assert {row[1] for row in found} <= predicted
    preds, _ = load_learner("model.layered").get_preds(dl=load_learner("model.layered").dls.test_dl(reviews))
    assert [float(row[2]) for row in found] == pytest.approx(preds[:, 0].tolist(), abs=1e-5)


def test_what_is_wrong_with_texts_ends_with_1_and_a_fix(reviews, capsys, monkeypatch):
    assert "did you mean 'text'" in failure(capsys, "train", "text", "reviews.csv", "--text-col", "texts")
    assert '--lang "sq"' in failure(capsys, "train", "text", "reviews.csv", "--text-col", "text", "--lang", "qq")
    assert "there is no tokenizer" in failure(capsys, "train", "text", "reviews.csv", "--model", "no/such")
    monkeypatch.setenv("LAYERED_OFFLINE", "1")
    assert "--from-scratch" in failure(capsys, "train", "text", "reviews.csv", "--text-col", "text", "--bs", "8")
    reviews.loc[3, "text"] = None
    reviews.loc[5, "label"] = None
    reviews.to_csv("reviews.csv", index=False)
    assert main(["train", "text", "reviews.csv", *SMALL_TEXT, "--label-col", "label", "--epochs", "1"]) == 0
    assert "2 rows without a text or a label: left out" in capsys.readouterr().out


def test_errors_name_options_as_the_shell_spells_them():
    error = BadValue(
        "bs=64 exceeds the items", got="bs=64", expected="valid_pct from 0", fix="bs=8, or drop_last=False"
    )
    in_shell(error, {"bs", "valid_pct", "lr"})
    assert (error.problem, error.got) == ("--bs 64 exceeds the items", "--bs 64")
    assert (error.expected, error.fix) == ("--valid-pct from 0", "--bs 8")
    error = BadValue("two columns", fix="df.rename(columns={'a': 'b'})")
    in_shell(error, {"bs"})
    assert error.fix == "in Python: df.rename(columns={'a': 'b'})"


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    days = pd.date_range("2024-01-01", periods=40).strftime("%Y-%m-%d")
    return pd.DataFrame({"day": days, "x": range(40), "y": ["p", "q"] * 20})


def test_warnings_and_advice_on_tables_are_for_files(table, tmp_path, capsys):
    table.to_csv("days.csv", index=False)
    done = layered("train", "tabular", "days.csv", "--epochs", "1", cwd=tmp_path)
    assert "layered: taken as categories: 'day' holds texts of dates: --ignore 'day', or columns such as" in done.stderr
    assert main(["train", "tabular", "days.csv", "--epochs", "1", "--ignore", "day"]) == 0
    assert "did you mean 'day'" in failure(capsys, "train", "tabular", "days.csv", "--ignore", "days")
    table.assign(y=None).to_csv("days.csv", index=False)
    assert "leave those rows out in the file" in failure(capsys, "train", "tabular", "days.csv", "--ignore", "day")


def test_one_class_small_pictures_and_pictures_that_cannot_be_predicted(folder, trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = tmp_path / "pictures" / "dark"
    one.mkdir(parents=True)
    for image in (folder / "dark").iterdir():
        (one / image.name).write_bytes(image.read_bytes())
    assert "a folder for each class in 'pictures'" in failure(capsys, "train", "vision", "pictures", *TRAIN)
    small = failure(capsys, "train", "vision", folder, *TRAIN, "--arch", "squeezenet1_1", "--size", "1")
    assert "--size 224" in small
    (tmp_path / "no.png").write_bytes(b"nothing")
    told = failure(capsys, "predict", trained[0], "no.png")
    assert told.splitlines()[1] == "  got      no.png: 'no.png' cannot be decoded"
    error = BadValue("the weights of a seed are out", fix="base_lr=0.1, lr == 2, path/bs=3")
    in_shell(error, {"weights", "seed", "lr", "bs"})
    assert (error.problem, error.fix) == ("the weights of a seed are out", "--lr 0.1, lr == 2, path/bs=3")

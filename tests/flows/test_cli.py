"""The command line: help, exit codes that scripts can trust, and a model from a folder to a prediction elsewhere."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from layered.cli.main import main


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
    assert command.split()[2:3] == [str(file)]
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


@pytest.mark.parametrize("command", [[], ["demo"], ["train"], ["train", "vision"], ["predict"]], ids=" ".join)
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
    assert "bs" in failure(capsys, "train", "vision", folder, *TRAIN[:-1], "400")
    assert "missing.pth" in failure(capsys, "train", "vision", folder, *TRAIN, "--weights", "missing.pth")
    assert "valid_pct" in failure(capsys, "train", "vision", folder, *TRAIN, "--valid-pct", "1.5")
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

"""Every notebook runs from start to end, offline, and leaves nothing behind; what is saved in it was made that way.

After changing a notebook, run it from start to end and save it with its outputs.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "nbs").glob("*.ipynb"))
MOST_BYTES = 2**20

each_notebook = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)


def test_there_is_a_tour_and_a_notebook_for_each_floor():
    floors = ["00_tour", "01_foundation", "02_data", "03_loop", "04_vision"]
    data = ["05_data_images", "06_data_table", "07_data_tensors"]
    applications = [
        "08_tabular",
        "09_collab",
        "10_stop_and_go",
        "11_movielens",
        "12_masks_points_boxes",
        "13_detection",
        "14_image_jobs",
        "15_gan",
        "16_text",
        "17_encoders",
        "18_characters_and_words",
        "19_labels_numbers_columns",
    ]
    assert [file.stem for file in NOTEBOOKS] == [*floors, *data, *applications]


@each_notebook
def test_a_notebook_runs_from_start_to_end_and_leaves_nothing_behind(file, tmp_path, monkeypatch):
    folder, temporary = tmp_path / "folder", tmp_path / "temporary"
    for name, value in {
        "LAYERED_HOME": tmp_path / "home",
        "IPYTHONDIR": tmp_path / "ipython",
        "MPLCONFIGDIR": tmp_path / "matplotlib",
        "TORCHINDUCTOR_CACHE_DIR": tmp_path / "inductor",
        "TMPDIR": temporary,
        "LAYERED_OFFLINE": 1,
        "HF_HUB_OFFLINE": 1,
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    folder.mkdir()
    temporary.mkdir()

    notebook = nbformat.read(file, as_version=4)
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute()

    left = [o.name for place in (folder, temporary) for o in place.iterdir()]
    assert left == []


@each_notebook
def test_what_is_saved_in_a_notebook_comes_from_one_run_without_errors(file):
    cells = [cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error" or o.get("name") == "stderr"]


@each_notebook
def test_what_is_saved_in_a_notebook_is_small_and_names_no_place_of_one_machine(file):
    text = file.read_text("utf-8")
    assert len(text) < MOST_BYTES
    assert not [place for place in ("/tmp/", "/home/", "/root/", "/Users/", "site-packages") if place in text]

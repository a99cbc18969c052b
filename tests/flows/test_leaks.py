"""What is done again and again in a process leaves nothing behind: no files, threads, processes or shared memory."""

import gc
import multiprocessing
import os
import threading
from pathlib import Path

import pytest
from counts import soak
from recipes import small_net

from layered.vision.all import CSVLogger, ImageDataLoaders, Resize, RunRecord, load_learner, noop, vision_learner

TIMES = soak(2, 30)


def held():
    gc.collect()
    return {
        "files": sorted(filter(None, map(_target, os.listdir("/proc/self/fd")))),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "processes": len(multiprocessing.active_children()),
        "maps": sum(".layered" in line or "/dev/shm" in line for line in Path("/proc/self/maps").read_text().splitlines()),
    }  # fmt: skip


def _target(handle):
    try:
        return os.readlink(f"/proc/self/fd/{handle}").partition(":")[0]  # a pipe's number changes
    except OSError:
        return ""


@pytest.mark.soak
@pytest.mark.parametrize("persistent", [False, True])
def test_fits_and_predictions_leave_nothing_behind(pictures, tmp_path, persistent):
    def use():
        dls = ImageDataLoaders.from_folder(
            pictures, valid_pct=0.25, seed=0, item_tfms=Resize(8), bs=9, num_workers=1, persistent_workers=persistent,
            device="cpu",
        )  # fmt: skip
        learn = vision_learner(dls, small_net, pretrained=False, path=tmp_path)
        learn.logger = noop
        learn.fit(1, cbs=[CSVLogger(), RunRecord(tmp_path / "record")], checkpoint=tmp_path / "run")
        learn.get_preds()
        learn.predict(dls.valid_ds.items[0])
        loaded = load_learner(learn.export("x"))
        loaded.predict(dls.valid_ds.items[0])
        loaded.get_preds(dl=loaded.dls.test_dl(dls.valid_ds.items[:2]))

    use()
    before = held()
    for _ in range(TIMES):
        use()
    assert held() == before

"""The main job on both sides: the same photographs, split, weights and recipe; error and time, mean of some seeds.

`python -m benchmarks.fine_tune SIDE SEED` runs one side once (each in a process of its own) and prints error and seconds.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.runner import Result, has_peer, printed

SEEDS = (1, 2, 3)
SIDES = {"ours": "layered.vision.all", "theirs": "fastai.vision.all"}


def one_run(side: str, seed: int) -> tuple[float, float]:
    """Error and seconds of an EfficientNet-Lite0 with ImageNet weights after `fine_tune(1)` on FASHION_TINY at 64 pixels."""
    from layered.catalog import URLs, untar_data
    from layered.integrations import timm_body
    from layered.integrations.timm_models import TimmBody

    names: dict[str, Any] = {}
    exec(f"from {SIDES[side]} import *", names)
    names["set_seed"](seed)
    path = str(untar_data(URLs.FASHION_TINY))
    began = time.perf_counter()
    dls = names["ImageDataLoaders"].from_folder(
        path, item_tfms=names["Resize"](64), batch_tfms=names["aug_transforms"](), bs=32
    )
    learn = names["vision_learner"](
        dls, "tf_efficientnet_lite0", pretrained=side == "ours", metrics=names["error_rate"]
    )
    if side == "theirs":
        trained: TimmBody = timm_body("tf_efficientnet_lite0", pretrained=True)
        learn.model[0].model.load_state_dict(trained.model.state_dict())
        dls.add_tfms([names["Normalize"].from_stats([0.5] * 3, [0.5] * 3, cuda=False)], "after_batch")
        learn.freeze()
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(1)
    return float(learn.recorder.values[-1][-1]), time.perf_counter() - began


def main() -> list[Result]:
    sides = ["ours", *(["theirs"] if has_peer("fastai") else [])]
    runs: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for seed in SEEDS:
        for side in sides:
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.fine_tune", side, str(seed)]
            line = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
            error, seconds = map(float, line.split())
            runs[side].append((error, seconds))
    results = []
    for i, (what, unit, budget) in enumerate((("error", "  ", None), ("time", "s ", 1.0))):
        means = [statistics.mean(run[i] for run in runs[side]) for side in sides]
        theirs = means[1] if len(means) > 1 else None
        ratio = None if theirs is None else means[0] / theirs
        name = f"fine_tune(1) on FASHION_TINY, {what}, {len(SEEDS)} seeds"
        results.append(printed(Result(name, means[0], theirs, ratio, None if theirs is None else budget, unit)))
    return results


if __name__ == "__main__":
    print(*one_run(sys.argv[1], int(sys.argv[2])))

"""`layered demo`: the whole workflow on real images, offline: data, training, pictures, export, prediction."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from layered.cli.shell import command
from layered.foundation import Path, set_seed
from layered.vision.all import (
    ClassificationInterpretation,
    ImageDataLoaders,
    Resize,
    URLs,
    aug_transforms,
    error_rate,
    matplotlib,
    plt,
    untar_data,
    vision_learner,
)


def run_demo(args: argparse.Namespace) -> None:
    """Fine-tune an ImageNet-trained EfficientNet-Lite0 on real Fashion-MNIST images and show the results.

    Args:
        args: `out`: the folder to write to; `epochs`: how long to train.
    """
    matplotlib.use("Agg")
    set_seed(42)
    out = Path(args.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()

    announce("1. The data: real Fashion-MNIST images, bundled with the library")
    path = untar_data(URLs.FASHION_TINY)
    dls = ImageDataLoaders.from_folder(
        path, item_tfms=Resize(64), batch_tfms=aug_transforms(max_rotate=5, max_warp=0.1, max_lighting=0.1), bs=32
    )
    print(f"{len(dls.train_ds)} training images, {len(dls.valid_ds)} validation images: {', '.join(dls.vocab)}")
    dls.show_batch(max_n=9)
    save_picture(out / "batch.png")

    announce("2. Fine-tuning: first the new head, then the whole network")
    learn = vision_learner(dls, "tf_efficientnet_lite0", metrics=error_rate, path=out)
    learn.fine_tune(args.epochs, 1e-2, lr_mult=2)  # clothes differ from ImageNet, so early layers must adapt too

    announce("3. What it learned")
    learn.recorder.plot_loss()
    save_picture(out / "loss.png")
    learn.show_results(max_n=9)
    save_picture(out / "results.png")
    interpretation = ClassificationInterpretation.from_learner(learn)
    interpretation.plot_confusion_matrix(figsize=(8, 8))
    save_picture(out / "confusion_matrix.png")
    for actual, predicted, count in interpretation.most_confused()[:3]:
        print(f"{actual} was predicted as {predicted} {count} times")

    announce("4. One file, loaded in a new process without pickle and without this script")
    model = learn.export(out / "fashion.layered")
    images = [str(o) for o in list(dls.valid_ds.items)[:: max(1, len(dls.valid_ds) // 5)][:5]]
    subprocess.run([sys.executable, "-m", "layered.cli.main", "predict", str(model), *images], check=True)

    minutes, seconds = divmod(round(time.perf_counter() - began), 60)
    announce(f"Done in {minutes} min {seconds} s. Everything is in {out}")
    for file in sorted(out.iterdir()):
        print(f"  {file.name}")
    print("\nNext, on your own images (a folder for each class):\n  layered train vision FOLDER --arch resnet18")
    print(f"Predict any image:\n  {command('layered', 'predict', model)} IMAGE")
    print("In Python: from layered.vision.all import *")


def announce(line: str) -> None:
    """Print a heading.

    Args:
        line: The heading.
    """
    print(f"\n{line}", flush=True)


def save_picture(file: Path) -> None:
    """Write the current figure and close it.

    Args:
        file: The image file.
    """
    plt.savefig(file, bbox_inches="tight", dpi=80)
    plt.close("all")
    print(f"wrote {file.name}")

"""`layered train vision FOLDER`: from a folder of images to a model file."""

from __future__ import annotations

import argparse
import shlex

from layered.files import commit
from layered.foundation import BadItem, CannotSave, Offline, Path, one_line, set_seed
from layered.training import layered_name
from layered.vision.all import (
    ImageDataLoaders,
    RandomResizedCrop,
    aug_transforms,
    error_rate,
    find_arch,
    matplotlib,
    torchvision_models,
    vision_learner,
)


def run_train_vision(args: argparse.Namespace) -> None:
    """Fine-tune on the folder, write the model, and print how to use it.

    Args:
        args: As declared in `layered.cli.main`.
    """
    try:
        train_vision(args)
    except (BadItem, Offline) as error:  # the fix as an option of this command
        skip, weights = (
            "replace or delete it, or leave such images out with --skip-bad",
            "--weights FILE, or --from-scratch",
        )
        error.fix = skip if isinstance(error, BadItem) else weights
        raise


def train_vision(args: argparse.Namespace) -> None:
    """Train and export; the fixes of errors are those for Python.

    Args:
        args: As declared in `layered.cli.main`.
    """
    matplotlib.use("Agg")
    set_seed(args.seed)
    folder = Path(args.folder)
    arch = args.arch
    if arch in torchvision_models.list_models(module=torchvision_models):
        arch = torchvision_models.get_model_builder(arch)
    find_arch(arch)
    has_splits = (folder / "train").is_dir() and (folder / "valid").is_dir()
    dls = ImageDataLoaders.from_folder(
        folder,
        valid_pct=None if has_splits else args.valid_pct,
        seed=args.seed,
        bs=args.bs,
        item_tfms=RandomResizedCrop(args.size, min_scale=0.5),
        batch_tfms=aug_transforms(),
        on_bad="skip" if args.skip_bad else "raise",
    )
    print(
        f"{len(dls.train_ds)} training images, {len(dls.valid_ds)} validation images, {dls.c} classes:",
        one_line(", ".join(dls.vocab), None),
    )
    learn = vision_learner(
        dls, arch, metrics=error_rate, weights=args.weights, pretrained=not args.from_scratch, path="."
    )
    out = layered_name(Path(args.out).absolute())
    check_writable(out)
    if args.from_scratch:
        learn.fit_one_cycle(args.epochs, args.lr)
    else:
        learn.fine_tune(args.epochs, args.lr)
    path = learn.export(out)
    command = shlex.join(["layered", "predict", str(path), str(dls.valid_ds.items[0])])
    print(f"\nThe model is in {path}. Next:\n  {one_line(command, None)}")


def check_writable(out: Path) -> None:
    """Raise CannotSave before the training if the model could not be written after it.

    Args:
        out: The file to write later.
    """
    if out.is_dir():
        raise CannotSave(f"could not write '{out}'", got="a folder of that name", fix="--out another name")
    trial = out.with_name(f"{out.name}.trial")
    commit(trial, lambda file: file.write(b""))
    trial.unlink()

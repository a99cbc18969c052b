"""`layered train vision FOLDER`, `… tabular TABLE`, `… text TABLE`, `… collab RATINGS`: from data to a model file."""

from __future__ import annotations

import argparse

from layered.cli.shell import command, counted, fitting_bs, fitting_share
from layered.collab import CollabDataLoaders, TabularDataLoaders, collab_learner, read_table, tabular_learner
from layered.files import commit
from layered.foundation import (
    BadItem,
    BadValue,
    CannotSave,
    Offline,
    Path,
    UnknownLabel,
    one_line,
    set_seed,
    unknown_name,
)
from layered.loop import Callback
from layered.text import AWD_LSTM, SpacyTokenizer, TextDataLoaders, text_classifier_learner
from layered.training import Learner, layered_name
from layered.vision.all import (
    ImageDataLoaders,
    RandomResizedCrop,
    accuracy,
    accuracy_multi,
    aug_transforms,
    error_rate,
    find_arch,
    get_image_files,
    mae,
    matplotlib,
    rmse,
    torchvision_models,
    vision_learner,
)

_SMALL = {"emb_sz": 100, "n_hid": 256, "n_layers": 2}  # of a model that starts from random weights


class _NamedPhases(Callback):
    """Prints what each of the two fits of fine-tuning trains."""

    def before_fit(self) -> None:
        frozen = self.learn.opt.frozen_idx
        is_frozen = isinstance(frozen, int) and frozen > 0
        print(
            "\nPhase 1: the new head learns, the rest is frozen" if is_frozen else "\nPhase 2: all layers learn",
            flush=True,
        )


def run_train_vision(args: argparse.Namespace) -> None:
    """Fine-tune on the folder, write the model, and print how to use it.

    Args:
        args: As declared in `layered.cli.main`.
    """
    try:
        train_vision(args)
    except (BadItem, Offline, UnknownLabel) as error:  # the fix as an option of this command
        error.fix = {
            BadItem: "replace or delete it, or leave such images out with --skip-bad",
            Offline: "--weights FILE, or --from-scratch",
            UnknownLabel: "images of that class in both train/ and valid/"
            if (Path(args.folder) / "train").is_dir()
            else f"--seed {args.seed + 1} for another split, or more images of that class",
        }[next(kind for kind in (Offline, UnknownLabel, BadItem) if isinstance(error, kind))]
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
    images = get_image_files(folder / "train" if has_splits else folder)
    classes = {image.parent.name for image in images}
    if len(classes) == 1:
        raise BadValue(
            "there is only one class, so there is nothing to classify",
            got=f"all images in folders named {classes.pop()!r}",
            expected=f"a folder for each class in '{images[0].parents[1]}'",
            fix="put the images of each class into a folder of that name",
        )
    dls = ImageDataLoaders.from_folder(
        folder,
        valid_pct=None if has_splits else fitting_share(args.valid_pct, len(images), "images"),
        seed=args.seed,
        bs=1,
        item_tfms=RandomResizedCrop(args.size, min_scale=0.5),
        batch_tfms=aug_transforms(),
        on_bad="skip" if args.skip_bad else "raise",
    )
    dls.bs = fitting_bs(args.bs, len(dls.train_ds), "images")
    print(
        f"{counted(len(dls.train_ds), 'training image')}, {counted(len(dls.valid_ds), 'validation image')}, "
        f"{counted(dls.c, 'class')}:",
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
        learn.fine_tune(args.epochs, args.lr, cbs=_NamedPhases())
    export(learn, out, (dls.valid_ds if len(dls.valid_ds) else dls.train_ds).items[0])


def run_train_tabular(args: argparse.Namespace) -> None:
    """Train on the table, write the model, and print how to use it.

    Args:
        args: As declared in `layered.cli.main`.
    """
    set_seed(args.seed)
    df = read_table(args.table)
    for column in args.ignore:
        if column not in df.columns:
            raise unknown_name("column", column, map(str, df.columns))
    df = df.drop(columns=args.ignore)
    target = df.columns[-1] if args.target is None else args.target
    if target not in df.columns:
        raise unknown_name("column", target, map(str, df.columns))
    dls = TabularDataLoaders.from_df(
        df, y_names=target, valid_pct=fitting_share(args.valid_pct, len(df), "rows"), seed=args.seed, bs=1
    )
    dls.bs = fitting_bs(args.bs, len(dls.train_ds), "rows")
    is_class = dls.train_ds.target_kinds == ["category"]
    print(f"{counted(len(dls.train_ds), 'training row')}, {counted(len(dls.valid_ds), 'validation row')}; "
          f"the target is {target!r}: {counted(dls.c, 'class') if is_class else 'numbers'}")  # fmt: skip
    learn = tabular_learner(dls, metrics=accuracy if is_class else [rmse, mae], path=".")
    fit_and_export(learn, args, args.table)


def run_train_text(args: argparse.Namespace) -> None:
    """Train on the texts of the table, write the model, and print how to use it.

    Args:
        args: As declared in `layered.cli.main`.
    """
    try:
        train_text(args)
    except Offline as error:  # the fix as an option of this command
        error.fix = "--model FOLDER, or --from-scratch"
        raise


def train_text(args: argparse.Namespace) -> None:
    """Train and export; the fixes of errors are those for Python.

    Args:
        args: As declared in `layered.cli.main`.
    """
    set_seed(args.seed)
    df = read_table(args.table)
    columns = [args.text_col or df.columns[0], args.label_col or df.columns[-1]]
    for column in columns:
        if column not in df.columns:
            raise unknown_name("column", column, map(str, df.columns))
    text, label = columns
    complete = df.dropna(subset=columns)
    if len(complete) < len(df):
        print(f"{counted(len(df) - len(complete), 'row')} without a text or a label: left out")
    dls = TextDataLoaders.from_df(
        complete.assign(**{text: complete[text].astype(str)}),
        text_col=text,
        label_col=label,
        label_delim=args.label_delim,
        valid_pct=fitting_share(args.valid_pct, len(complete), "texts"),
        seed=args.seed,
        tok_tfm=args.model or SpacyTokenizer(args.lang),
        max_len=args.max_len,
        bs=1,
    )
    dls.bs = fitting_bs(args.bs, len(dls.train_ds), "texts")
    kind = dls.train_ds.target_kinds[0]
    print(f"{counted(len(dls.train_ds), 'training text')}, {counted(len(dls.valid_ds), 'validation text')}; "
          f"the target is {label!r}: {'numbers' if kind == 'regression' else counted(dls.c, 'class')}")  # fmt: skip
    metrics = {"category": accuracy, "multicategory": accuracy_multi, "regression": [rmse, mae]}[kind]
    config = None if args.model or not args.from_scratch else _SMALL
    learn = text_classifier_learner(
        dls, args.model or AWD_LSTM, config=config, pretrained=not args.from_scratch, metrics=metrics, path="."
    )
    out = layered_name(Path(args.out).absolute())
    check_writable(out)
    if args.from_scratch:
        learn.fit_one_cycle(args.epochs, args.lr)
    else:
        learn.fine_tune(args.epochs, args.lr, cbs=_NamedPhases())
    export(learn, out, args.table)


def run_train_collab(args: argparse.Namespace) -> None:
    """Train on the ratings, write the model, and print how to use it.

    Args:
        args: As declared in `layered.cli.main`.
    """
    set_seed(args.seed)
    df = read_table(args.table)
    dls = CollabDataLoaders.from_df(
        df,
        user_name=args.user,
        item_name=args.item,
        rating_name=args.rating,
        valid_pct=fitting_share(args.valid_pct, len(df), "ratings"),
        seed=args.seed,
        bs=1,
    )
    dls.bs = fitting_bs(args.bs, len(dls.train_ds), "ratings")
    print(f"{counted(len(dls.train_ds), 'training rating')}, {counted(len(dls.valid_ds), 'validation rating')}")
    ratings = df[dls.train_ds.y_names[0]]
    margin = (ratings.max() - ratings.min()) / 10
    y_range = (float(ratings.min() - margin), float(ratings.max() + margin))  # the ends are never reached
    learn = collab_learner(dls, y_range=y_range if margin else None, metrics=[rmse, mae], path=".")
    fit_and_export(learn, args, args.table)


def fit_and_export(learn: Learner, args: argparse.Namespace, example: object) -> None:
    """Train in one phase and export.

    Args:
        learn: The learner.
        args: As declared in `layered.cli.main`.
        example: What the printed command predicts.
    """
    out = layered_name(Path(args.out).absolute())
    check_writable(out)
    learn.fit_one_cycle(args.epochs, args.lr)
    export(learn, out, example)


def export(learn: Learner, out: Path, example: object) -> None:
    """Export the learner and print the command that predicts with it.

    Args:
        learn: The learner.
        out: The file.
        example: What the command predicts.
    """
    path = learn.export(out)
    print(f"\nThe model is in {path}. Next:\n  {one_line(command('layered', 'predict', path, example), None)}")


def check_writable(out: Path) -> None:
    """Raise CannotSave before the training if the model could not be written after it.

    Args:
        out: The file to write later.
    """
    if out.is_dir():
        raise CannotSave(f"could not write '{out}'", got="a folder of that name", fix="--out another name")
    trial = out.with_name(f"{out.name}.trial")
    try:
        commit(trial, lambda file: file.write(b""))
    except CannotSave as error:
        fix = "--out a file in a folder that you may write to"
        raise CannotSave(f"could not write '{out}'", got=error.got, fix=fix) from None
    trial.unlink()

"""The command line: `layered demo`; `layered train vision FOLDER`, `… tabular TABLE`, `… text TABLE`, `… collab RATINGS`;
`layered predict MODEL INPUT...`; `layered serve MODEL`; `layered runs FOLDER`; `layered datasets`.

Exit codes: 0 success; 1 an error in the data, a file or the network, with a message that says how to fix it; 2 an invalid
command line; 130 interrupted; 141 the output was closed.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence

from layered.cli.datasets import add_datasets
from layered.cli.demo import run_demo
from layered.cli.predict import run_predict
from layered.cli.runs import run_runs
from layered.cli.serve import run_serve
from layered.cli.shell import in_shell, shell_words
from layered.cli.train import run_train_collab, run_train_tabular, run_train_text, run_train_vision
from layered.foundation import LayeredError
from layered.version import __version__


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="layered", description="Train, try and use models from the shell.")
    parser.add_argument("--version", action="version", version=f"layered {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="fine-tune a small model on bundled images, offline, in a few minutes")
    demo.add_argument("--out", default="demo", help="folder for pictures and the model (default: %(default)s)")
    demo.add_argument("--epochs", type=_count, default=4, help="epochs with all layers learning (default: %(default)s)")
    demo.set_defaults(run=run_demo)

    train = commands.add_parser("train", help="train a model on your own data")
    kinds = train.add_subparsers(title="kinds of data", required=True, metavar="KIND")
    vision = kinds.add_parser(
        "vision",
        help="images in folders named after their class",
        description="Fine-tune an image classifier. FOLDER holds a folder for each class, or train/ and valid/ with these.",
    )
    vision.add_argument("folder", metavar="FOLDER", help="the folder of the images")
    vision.add_argument("--arch", default="resnet18", help="architecture of torchvision or timm (default: %(default)s)")
    vision.add_argument("--size", type=_count, default=224, help="side of the images in pixels (default: %(default)s)")
    _add_training(vision, run_train_vision, "images", lr=2e-3, epochs=3)
    vision.add_argument("--weights", help="file with trained weights, instead of downloading them")
    vision.add_argument("--from-scratch", action="store_true", help="start from random weights")
    vision.add_argument("--skip-bad", action="store_true", help="leave out images that cannot be read, and list them")

    tabular = kinds.add_parser(
        "tabular",
        help="rows of a table: classes or numbers",
        description="Train on a table (.csv, .tsv, .parquet, .feather) to predict one of its columns from the others.",
    )
    tabular.add_argument("table", metavar="TABLE", help="the file of the table")
    tabular.add_argument("--target", metavar="COLUMN", help="the column to predict (default: the last)")
    tabular.add_argument("--ignore", metavar="COLUMN", nargs="+", default=[], help="columns to leave out")
    _add_training(tabular, run_train_tabular, "rows", lr=1e-2, epochs=5)

    text = kinds.add_parser(
        "text",
        help="rows of a table with texts: classes, labels or numbers",
        description="Train on the texts of a table (.csv, .tsv, .parquet, .feather) to predict their labels.",
    )
    text.add_argument("table", metavar="TABLE", help="the file of the table")
    text.add_argument("--text-col", metavar="COLUMN", help="the column of texts (default: the first)")
    text.add_argument("--label-col", metavar="COLUMN", help="the column of labels or numbers (default: the last)")
    text.add_argument("--label-delim", metavar="TEXT", help="what stands between the labels of a text that has several")
    text.add_argument("--lang", default="en", help="spaCy's code of the language (default: %(default)s)")
    text.add_argument("--max-len", type=_count, help="the most tokens of a text (default: all)")
    text.add_argument(
        "--model", metavar="FOLDER", help="fine-tune a model of Hugging Face: its folder or its name on the hub"
    )
    _add_training(text, run_train_text, "texts", lr=2e-3, epochs=3)
    text.add_argument("--from-scratch", action="store_true", help="start from random weights")

    collab = kinds.add_parser(
        "collab",
        help="ratings that users gave to items",
        description="Train on a table of ratings (.csv, .tsv, .parquet, .feather), one a row, to predict others.",
    )
    collab.add_argument("table", metavar="RATINGS", help="the file of the ratings")
    collab.add_argument("--user", metavar="COLUMN", help="the column of users (default: the first)")
    collab.add_argument("--item", metavar="COLUMN", help="the column of items (default: the second)")
    collab.add_argument("--rating", metavar="COLUMN", help="the column of ratings (default: the third)")
    _add_training(collab, run_train_collab, "ratings", lr=5e-3, epochs=5)

    predict = commands.add_parser(
        "predict",
        help="predict images or rows with an exported model",
        description="Predict image files, all images of a folder, or all rows of a table (with the column of texts that the "
        "model was trained on), as the model requires.",
    )
    predict.add_argument("model", metavar="MODEL", help="a file written by train or by learn.export()")
    predict.add_argument("inputs", metavar="INPUT", nargs="+", help="image files and folders, or tables")
    form = predict.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object per line, with all probabilities")
    form.add_argument("--csv", action="store_true", help="CSV with a line of names, with all probabilities")
    predict.add_argument(
        "--abstain",
        type=_share,
        metavar="CONFIDENCE",
        help="give no class where the most probable one is less probable (default: what the model was calibrated with)",
    )
    predict.set_defaults(run=run_predict)

    serve = commands.add_parser(
        "serve",
        help="a page to try an exported model, and a JSON endpoint",
        description="Serve a page on this machine: drop an image, type a text or fill a row. POST /predict answers the same in "
        "JSON. Ctrl-C ends it.",
    )
    serve.add_argument("model", metavar="MODEL", help="a file written by train or by learn.export()")
    serve.add_argument("--port", type=_port, default=8000, help="0 for any that is free (default: %(default)s)")
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen at (default: %(default)s, this machine alone). With any other, everybody who can reach it "
        "can ask the model: there is no password and no encryption",
    )
    serve.add_argument("--max-mb", type=_rate, default=10.0, help="largest request in megabytes (default: %(default)s)")
    serve.set_defaults(run=run_serve)

    runs = commands.add_parser("runs", help="show a run that RunRecord recorded")
    runs.add_argument("folder", metavar="FOLDER", help="the folder of the run")
    runs.set_defaults(run=run_runs)

    add_datasets(commands)
    return parser


def _add_training(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], None], items: str, lr: float, epochs: int
) -> None:
    """Add the options that training has for every kind of data."""
    parser.add_argument(
        "--epochs", type=_count, default=epochs, help="epochs with all layers learning (default: %(default)s)"
    )
    parser.add_argument("--out", default="model.layered", help="file to write the model to (default: %(default)s)")
    parser.add_argument(
        "--bs",
        type=_count,
        default=64,
        help=f"{items} per batch, fewer if there are fewer {items} (default: %(default)s)",
    )
    parser.add_argument("--lr", type=_rate, default=lr, help="learning rate (default: %(default)s)")
    parser.add_argument(
        "--valid-pct",
        type=float,
        default=0.2,
        help=f"share of the {items} used for validation, unless they are divided already (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=42, help="the same seed gives the same split and run (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return count


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 2**16:
        raise argparse.ArgumentTypeError("must be from 0 to 65535")
    return port


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return rate


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError("must be from 0 to 1")
    return share


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: The command line without the name of the program; by default that of the process.
    """
    args = make_parser().parse_args(argv)
    options = vars(args).keys() - {"run"}
    formatwarning = warnings.formatwarning
    warnings.formatwarning = lambda message, *_: f"layered: {shell_words(message, options)}\n"
    try:
        args.run(args)
        sys.stdout.flush()
    except LayeredError as error:
        in_shell(error, options)
        print(f"layered: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("layered: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as by `| head`; without /dev/null, flushing at exit would fail once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    finally:
        warnings.formatwarning = formatwarning
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The command line: `layered demo`, `layered train vision FOLDER`, `layered predict MODEL IMAGE...`, `layered runs FOLDER`,
`layered datasets`.

Exit codes: 0 success; 1 an error in the data, a file or the network, with a message that says how to fix it; 2 an invalid
command line; 130 interrupted; 141 the output was closed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from layered.cli.datasets import add_datasets
from layered.cli.demo import run_demo
from layered.cli.predict import run_predict
from layered.cli.runs import run_runs
from layered.cli.train import run_train_vision
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
    vision.add_argument(
        "--epochs", type=_count, default=3, help="epochs with all layers learning (default: %(default)s)"
    )
    vision.add_argument("--size", type=_count, default=224, help="side of the images in pixels (default: %(default)s)")
    vision.add_argument("--out", default="model.layered", help="file to write the model to (default: %(default)s)")
    vision.add_argument("--bs", type=_count, default=64, help="images per batch (default: %(default)s)")
    vision.add_argument("--lr", type=float, default=2e-3, help="learning rate (default: %(default)s)")
    vision.add_argument(
        "--valid-pct",
        type=float,
        default=0.2,
        help="share used for validation if there is no valid/ (default: %(default)s)",
    )
    vision.add_argument(
        "--seed", type=int, default=42, help="the same seed gives the same split and run (default: %(default)s)"
    )
    vision.add_argument("--weights", help="file with trained weights, instead of downloading them")
    vision.add_argument("--from-scratch", action="store_true", help="start from random weights")
    vision.add_argument("--skip-bad", action="store_true", help="leave out images that cannot be read, and list them")
    vision.set_defaults(run=run_train_vision)

    predict = commands.add_parser("predict", help="predict images with an exported model")
    predict.add_argument("model", metavar="MODEL", help="a file written by train or by learn.export()")
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="image files")
    predict.add_argument("--json", action="store_true", help="one JSON object per line, with all probabilities")
    predict.set_defaults(run=run_predict)

    runs = commands.add_parser("runs", help="show a run that RunRecord recorded")
    runs.add_argument("folder", metavar="FOLDER", help="the folder of the run")
    runs.set_defaults(run=run_runs)

    add_datasets(commands)
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return count


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: The command line without the name of the program; by default that of the process.
    """
    args = make_parser().parse_args(argv)
    try:
        args.run(args)
        sys.stdout.flush()
    except LayeredError as error:
        print(f"layered: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("layered: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as by `| head`; without /dev/null, flushing at exit would fail once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The command line: `layered demo`, `layered train vision FOLDER`, `layered predict MODEL IMAGE...`, `layered runs FOLDER`,
`layered datasets`.

Exit codes: 0 done; 1 something was wrong with the data, a file or the network, and the message says what and how to mend
it; 2 the command was not understood; 130 interrupted; 141 nobody reads the output.
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
    """All commands with their arguments."""
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
    vision.add_argument("--bs", type=_count, default=64, help="images a batch (default: %(default)s)")
    vision.add_argument("--lr", type=float, default=2e-3, help="learning rate (default: %(default)s)")
    vision.add_argument(
        "--valid-pct", type=float, default=0.2, help="share held out, without valid/ (default: %(default)s)"
    )
    vision.add_argument(
        "--seed", type=int, default=42, help="same seed, same split and same run (default: %(default)s)"
    )
    vision.add_argument("--weights", help="file of trained weights, in place of a download")
    vision.add_argument("--from-scratch", action="store_true", help="start from random weights")
    vision.add_argument("--skip-bad", action="store_true", help="leave out images that cannot be read, and say which")
    vision.set_defaults(run=run_train_vision)

    predict = commands.add_parser("predict", help="predict images with an exported model")
    predict.add_argument("model", metavar="MODEL", help="a file that train, or learn.export(), wrote")
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="image files")
    predict.add_argument("--json", action="store_true", help="one JSON object a line, with all probabilities")
    predict.set_defaults(run=run_predict)

    runs = commands.add_parser("runs", help="show what happened in a run, as RunRecord wrote it down")
    runs.add_argument("folder", metavar="FOLDER", help="the folder of the record")
    runs.set_defaults(run=run_runs)

    add_datasets(commands)
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return count


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
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
    except BrokenPipeError:  # whoever reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


if __name__ == "__main__":
    sys.exit(main())

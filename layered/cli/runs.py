"""`layered runs FOLDER`: the record of a run, a line for each fit."""

from __future__ import annotations

import argparse

from layered.callback import read_record
from layered.foundation import visible


def run_runs(args: argparse.Namespace) -> None:
    """Print the record of a run, then its epochs.

    Args:
        args: `folder`: the folder of the run.
    """
    record = read_record(args.folder)
    print(record)
    if len(record.epochs):
        print(visible(record.epochs.to_string(index=False), None))

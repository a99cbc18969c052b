"""What a `NeuralNet` writes to files and reads back: parameters, the state of the optimizer, the epochs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from layered.files import (
    commit,
    decode_tree,
    encode_tree,
    parse_json,
    read_archive,
    read_weights,
    read_whole,
    write_archive,
)
from layered.foundation import BadFile, BadValue
from layered.loop import check_fits
from layered.sklearn.history import History

File = str | os.PathLike[str]


class Saved:
    """Saving and loading, for a `NeuralNet`; all files are data."""

    module_: nn.Module
    criterion_: Any
    optimizer_: Any
    _epochs: History

    def save_params(
        self,
        f_params: File | None = None,
        f_optimizer: File | None = None,
        f_criterion: File | None = None,
        f_history: File | None = None,
    ) -> None:
        """Write parts of a trained estimator, each to a file of its own.

        Args:
            f_params: For the parameters of the module.
            f_optimizer: For the state of the optimizer.
            f_criterion: For the parameters and buffers of the loss.
            f_history: For the epochs, as JSON.

        Raises:
            BadValue: No file is given.
            CannotSave: A file cannot be written.
        """
        _check_some(f_params, f_optimizer, f_criterion, f_history)
        for file, part in self._parts(f_params, f_criterion):
            write_archive(file, {}, part.state_dict(), kind="weights")
        if f_optimizer is not None:
            tensors: dict[str, Any] = {}
            manifest = {"optimizer": encode_tree(self.optimizer_.state_dict(), tensors, "optimizer")}
            write_archive(f_optimizer, manifest, tensors, kind="weights")
        if f_history is not None:
            commit(f_history, lambda file: file.write(json.dumps(self._epochs).encode()))

    def load_params(
        self,
        f_params: File | None = None,
        f_optimizer: File | None = None,
        f_criterion: File | None = None,
        f_history: File | None = None,
    ) -> None:
        """Read what `save_params` wrote, after `initialize` or `fit`; nothing changes unless all files can be read.

        Args:
            f_params: The parameters of the module: such a file, or the state dict of a module that torch saved.
            f_optimizer: The state of the optimizer.
            f_criterion: The parameters and buffers of the loss.
            f_history: The epochs.

        Raises:
            BadValue: No file is given.
            BadFile: It is not such a file.
            CannotRestore: It is that of another module.
        """
        _check_some(f_params, f_optimizer, f_criterion, f_history)
        weights = []
        for file, part in self._parts(f_params, f_criterion):
            weights.append((part, read_weights(file)))
            check_fits(Path(file), part.state_dict(), weights[-1][1], strict=True)
        state = None if f_optimizer is None else _optimizer_state(f_optimizer)
        epochs = self._epochs if f_history is None else _epochs_of(f_history)
        if state is not None:
            self.optimizer_.load_state_dict(state)
        for part, found in weights:
            part.load_state_dict(found)
        self._epochs = epochs

    def _parts(self, f_params: File | None, f_criterion: File | None) -> Iterator[tuple[File, nn.Module]]:
        """The files of the module and of the loss that were given, each with its part; a function has no parameters."""
        criterion = self.criterion_ if isinstance(self.criterion_, nn.Module) else nn.Module()
        for file, part in ((f_params, self.module_), (f_criterion, criterion)):
            if file is not None:
                yield file, part


def _check_some(*files: File | None) -> None:
    if all(file is None for file in files):
        raise BadValue(
            "no file is given", fix="f_params='net.safetensors'; f_optimizer=, f_criterion=, f_history= likewise"
        )


def _optimizer_state(file: File) -> Any:
    archive = read_archive(file, kind="weights")
    if "optimizer" not in archive.manifest:
        raise BadFile(f"'{file}' holds no state of an optimizer", fix="the file that save_params(f_optimizer=…) wrote")
    return decode_tree(archive.manifest["optimizer"], archive.tensors)


def _epochs_of(file: File) -> History:
    epochs = parse_json(read_whole(file), f"the history '{file}'")
    if not isinstance(epochs, list) or not all(isinstance(row, dict) for row in epochs):
        raise BadFile(f"'{file}' is not a history", expected="a list with a table for each epoch")
    return History(epochs)

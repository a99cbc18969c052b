"""Cleaning a folder of images by what a model finds hard: the worst files of a class, and deleting or moving files safely."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from layered.data import as_dataset
from layered.files import saving
from layered.foundation import BadValue, L, NotFoundPath, Path, StrPath, checked, describe, lazy, unknown_name
from layered.insight import ClassificationInterpretation
from layered.training import Learner
from layered.vision.missing import why_missing
from layered.vision.show import top_probability

if TYPE_CHECKING:
    from pandas import DataFrame

pd = lazy("pandas")


class FileChange(NamedTuple):
    """What happens to a file.

    Attributes:
        file: The file.
        to: Its new path; None if it is deleted.
    """

    file: Path
    to: Path | None = None


@checked
def worst_files(learn: Learner, label: str | None = None, ds_idx: int = 1, max_n: int | None = None) -> DataFrame:
    """The files by which a classifier loses most: mislabelled images are often among the first.

        worst = worst_files(learn, "cat", ds_idx=0, max_n=30)
        clean_files(delete=worst.file[[0, 3]], move={worst.file[2]: "pets/dog"}, dry_run=True)

    Args:
        learn: A learner whose items are files with one label each.
        label: Only the files with this label; by default those with any.
        ds_idx: Which of the learner's loaders: 1 validation, 0 training, without augmentation.
        max_n: The most files; by default all.

    Returns:
        A frame with the columns file, label, prediction, probability (of the prediction) and loss, the largest loss first.

    Raises:
        UnknownName: The label is not in the vocabulary.
        BadValue: The items are not files with one label each.
        CannotTrain: The loader left items out.
    """
    interp = ClassificationInterpretation.from_learner(learn, ds_idx)
    interp.confusion_matrix()  # raises if there is not one label for each item
    vocab = [str(name) for name in interp.vocab]
    if label is not None and label not in vocab:
        raise unknown_name("label", label, vocab)
    losses, positions = interp.top_losses()
    if label is not None:
        chosen = interp.targs[positions].flatten() == vocab.index(label)
        losses, positions = losses[chosen], positions[chosen]
    losses, positions = losses[:max_n], positions[:max_n]
    frame: DataFrame = pd.DataFrame(
        {
            "file": _files(interp, positions.tolist()),
            "label": [vocab[i] for i in interp.targs[positions].flatten().tolist()],
            "prediction": [vocab[i] for i in interp.decoded[positions].flatten().long().tolist()],
            "probability": [top_probability(raw) for raw in interp.preds[positions]],
            "loss": losses.numpy(),
        }
    )
    return frame


def _files(interp: ClassificationInterpretation, positions: list[int]) -> list[Path]:
    """The files that the images at some positions are read from."""
    if not positions:
        return []
    columns = as_dataset(interp.dl.dataset).columns  # type: ignore[attr-defined]  # `items_at` needs it too
    items: list[Any] = interp.items_at(positions)
    for step in range(columns[0].getters if columns else 0):
        items = [columns[0].tfms.step(step, item) for item in items]
    wrong = next((item for item in items if not isinstance(item, (str, os.PathLike))), None)
    if wrong is not None:
        raise BadValue("the images are not read from files", got=describe(wrong), expected="paths")
    return [Path(item) for item in items]


@checked
def clean_files(
    delete: Iterable[StrPath] = (), move: Mapping[Any, StrPath] | None = None, dry_run: bool = False
) -> L[FileChange]:
    """Delete files, and move others to the folders of other labels. No file is ever overwritten.

    Before the first change it is checked that every file exists.

    Args:
        delete: Files to delete, for good. To keep them elsewhere, move them.
        move: The new folder of each file: {file: folder}. Folders are made; a file that its folder has already a namesake of
            gets a number: photo_1.jpg. A file that is in the folder stays.
        dry_run: Change nothing, and return what would be done.

    Returns:
        What was done, in that order.

    Raises:
        NotFoundPath: A file does not exist.
        BadValue: A file is to be both deleted and moved.
        CannotSave: The system refuses a change; those before it have been made.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "a.jpg").touch(), (folder / "b.jpg").touch()
        (None, None)
        >>> changes = clean_files([folder / "a.jpg"], {folder / "b.jpg": folder / "dog"})
        >>> [(change.file.name, change.to) for change in changes if change.to is None]
        [('a.jpg', None)]
        >>> (folder / "dog").ls().attrgot("name")
        (#1) ['b.jpg']
    """
    changes = [FileChange(Path(file)) for file in dict.fromkeys(delete)]
    taken: set[str] = set()
    for file, folder in (move or {}).items():
        file, folder = Path(file), Path(folder)
        if os.path.realpath(file.parent) != os.path.realpath(folder):
            changes.append(FileChange(file, _free(folder, file.name, taken)))
    _check(changes)
    for change in [] if dry_run else changes:
        with saving(change.file):
            _carry_out(change)
    return L(changes)


def _check(changes: list[FileChange]) -> None:
    seen: set[str] = set()
    for file, _ in changes:
        if not file.is_file():
            got, fix = why_missing(str(file))
            raise NotFoundPath(f"file '{file}' does not exist", got=got, fix=f"{fix}; nothing has been changed")
        place = os.path.join(os.path.realpath(file.parent), file.name)
        if place in seen:
            raise BadValue(f"two changes of one file, '{file}'", expected="either delete or move, once")
        seen.add(place)


def _free(folder: Path, name: str, taken: set[str]) -> Path:
    """A path in a folder that neither exists nor is taken, and is taken now."""
    stem, suffix = os.path.splitext(name)
    path, number = Path(folder, name), 0
    while os.path.lexists(path) or str(path) in taken:
        number += 1
        path = Path(folder, f"{stem}_{number}{suffix}")
    taken.add(str(path))
    return path


def _carry_out(change: FileChange) -> None:
    if change.to is None:
        change.file.unlink()
        return
    change.to.parent.mkdir(parents=True, exist_ok=True)
    change.to.touch(
        exist_ok=False
    )  # an error if somebody has made such a file since; from here on it is this one's place
    try:
        shutil.move(change.file, change.to)  # also to another file system
    except BaseException:
        change.to.unlink()
        raise

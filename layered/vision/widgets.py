"""Cleaning images in a notebook: choose what to delete and what belongs to another label.

    from layered.vision.widgets import *

The widgets are those of ipywidgets, which the extra `widgets` installs. Without a notebook, `layered.vision.cleaning` does the
same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from layered.foundation import BadValue, L, Path, StrPath, require
from layered.training import Learner
from layered.vision.cleaning import FileChange, clean_files, worst_files
from layered.vision.types import PILImage

if TYPE_CHECKING:
    from pandas import DataFrame

KEEP, DELETE = "<Keep>", "<Delete>"
_OF_IPYWIDGETS = ("HBox", "VBox", "Button", "Checkbox", "Dropdown", "Layout", "Box", "Output", "Label", "FileUpload")
__all__ = [  # noqa: F822  # those of ipywidgets come by `__getattr__`
    "Box", "Button", "Checkbox", "Dropdown", "FileChange", "FileUpload", "HBox", "ImageClassifierCleaner", "ImagesCleaner",
    "Label", "Layout", "Output", "VBox", "carousel", "clean_files", "widget", "widgets", "worst_files",
]  # fmt: skip


def _ipywidgets(why: str = "a widget") -> Any:
    return require("ipywidgets", extra="widgets", why=why)


def __getattr__(name: str) -> Any:
    if name == "widgets":
        return _ipywidgets("layered.vision.widgets.widgets")
    if name in _OF_IPYWIDGETS:
        return getattr(_ipywidgets(f"layered.vision.widgets.{name}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def carousel(children: Sequence[Any] = (), **layout: Any) -> Any:
    """A row of widgets that scrolls sideways.

    Args:
        children: The widgets.
        layout: For ipywidgets' `Layout`, in place of the usual one.

    Raises:
        MissingDependency: ipywidgets is not installed.
    """
    usual = {"overflow": "scroll hidden", "flex_flow": "row", "display": "flex"}
    w = _ipywidgets("a carousel")
    return w.Box(children=children, layout=w.Layout(**{**usual, **layout}))


def widget(im: Any, *args: Any, layout: Any = None) -> Any:
    """A widget that shows whatever a notebook can display.

    Args:
        im: What to show: an image, a figure, a frame.
        args: More of it, below.
        layout: ipywidgets' `Layout`, or a dict of its settings.

    Raises:
        MissingDependency: ipywidgets is not installed.
    """
    output = _ipywidgets("a widget").Output(layout=layout or {})
    for shown in (im, *args):
        output.append_display_data(shown)
    return output


class ImagesCleaner:
    """A row of images, each with a menu: keep it, delete it, or one of `opts`.

    Args:
        opts: What else can be chosen, such as labels.
        height: Height of the images in pixels.
        width: Width of the images in pixels.
        max_n: The most images.

    Attributes:
        fns: The files that are shown.
        choices: What was chosen, by file; those that are kept are left out.

    Raises:
        MissingDependency: ipywidgets is not installed.

    Examples:
        >>> cleaner = ImagesCleaner(["cat", "dog"])  # doctest: +SKIP
        >>> cleaner.set_fns(files); cleaner  # doctest: +SKIP
    """

    def __init__(self, opts: Iterable[Any] = (), height: int = 128, width: int = 256, max_n: int = 30) -> None:
        self.opts = [KEEP, DELETE, *map(str, opts)]
        self.height, self.width, self.max_n = height, width, max_n
        self.fns: L[Path] = L()
        self.choices: dict[Path, str] = {}
        self.row = carousel(width="100%")

    def set_fns(self, fns: Iterable[StrPath]) -> None:
        """Show files; of what was chosen for them before, nothing is forgotten.

        Args:
            fns: The files; those that are no longer there are left out.
        """
        self.fns = L(file for file in map(Path, fns) if file.is_file())[: self.max_n]
        self.row.children = [self._with_menu(file) for file in self.fns]

    def _with_menu(self, file: Path) -> Any:
        w = _ipywidgets()
        thumb = PILImage.create(file).to_thumb(self.height, self.width).to_bytes_format("png")
        menu = w.Dropdown(
            options=self.opts, value=self.choices.get(file, KEEP), layout={"width": "max-content"}, tooltip=file.name
        )
        menu.observe(lambda change: self._choose(file, change["new"]), "value")
        picture = w.Image(value=thumb, format="png", layout={"object_fit": "contain", "height": f"{self.height}px"})
        return w.VBox(children=[picture, menu], layout={"width": "auto", "height": f"{self.height + 50}px"})

    def _choose(self, file: Path, choice: str) -> None:
        self.choices.pop(file, None)
        if choice != KEEP:
            self.choices[file] = choice

    def delete(self) -> L[int]:
        """The positions in `fns` of the images to delete.

        for i in cleaner.delete(): cleaner.fns[i].unlink()
        """
        return L(i for i, file in enumerate(self.fns) if self.choices.get(file) == DELETE)

    def change(self) -> L[tuple[int, str]]:
        """The positions in `fns` of the images for which something else was chosen, each with the choice.

        for i, label in cleaner.change(): clean_files(move={cleaner.fns[i]: path / label})
        """
        chosen = ((i, self.choices.get(file, KEEP)) for i, file in enumerate(self.fns))
        return L((i, choice) for i, choice in chosen if choice not in (KEEP, DELETE))

    @property
    def widget(self) -> Any:
        """What a notebook shows."""
        return self.row

    def _ipython_display_(self) -> None:
        require("IPython.display", extra="widgets", why="a cleaner").display(self.widget)


class ImageClassifierCleaner(ImagesCleaner):
    """The images by which a classifier loses most, of a label and a split, each with a menu: keep, delete, or another label.

        cleaner = ImageClassifierCleaner(learn)
        cleaner                             # choose
        cleaner.clean(dry_run=True)         # what would be done for all that was chosen

    Or in the usual way, for the images that are shown: `delete()` and `change()`.

    Args:
        learn: A learner whose items are files with one label each.
        opts: What can be chosen besides the labels.
        height: Height of the images in pixels.
        width: Width of the images in pixels.
        max_n: The most images.

    Attributes:
        fns: The files that are shown, the largest loss first.

    Raises:
        MissingDependency: ipywidgets is not installed.
        BadValue: The items are not files with one label each.
    """

    def __init__(
        self, learn: Learner, opts: Iterable[Any] = (), height: int = 128, width: int = 256, max_n: int = 30
    ) -> None:
        w = _ipywidgets("ImageClassifierCleaner")
        self.worst: dict[str, DataFrame] = {
            name: worst_files(learn, ds_idx=i) for i, name in enumerate(("Train", "Valid"))
        }
        labels = [str(label) for label in learn.dls.vocab]
        super().__init__([*labels, *opts], height, width, max_n)
        self.labels = labels
        self.label_menu, self.split_menu = w.Dropdown(options=labels), w.Dropdown(options=list(self.worst))
        for menu in (self.label_menu, self.split_menu):
            menu.observe(lambda change: self.show_chosen(), "value")
        self.show_chosen()

    @property
    def widget(self) -> Any:
        w = _ipywidgets()
        return w.VBox(children=[w.HBox(children=[self.label_menu, self.split_menu]), self.row])

    def show_chosen(self) -> None:
        """Show the files of the label and the split that are chosen in the menus."""
        worst = self.worst[self.split_menu.value]
        self.set_fns(worst.file[worst.label == self.label_menu.value])

    def clean(self, dry_run: bool = False) -> L[FileChange]:
        """Delete and move files as it was chosen, for all labels and splits: see `clean_files`.

        A file moves beside the folder that it lies in, to that of its new label.

        Args:
            dry_run: Change nothing, and return what would be done.

        Raises:
            BadValue: The folder of a file is not called after its label, so that moving it would not change that.
        """
        self.choices = {file: choice for file, choice in self.choices.items() if file.is_file()}
        folders = {}
        for worst in self.worst.values():
            for file, label in zip(worst.file, worst.label, strict=True):
                choice = self.choices.get(file)
                if choice not in self.labels:
                    continue
                if file.parent.name != label:
                    raise BadValue(
                        "the folder of a file is not called after its label, so moving it would not change the label",
                        got=f"'{file}' with the label '{label}'",
                        fix="for i, label in cleaner.change(): … change the label of cleaner.fns[i] where it is written",
                    )
                folders[file] = file.parent.with_name(choice)
        deleted = [file for file, choice in self.choices.items() if choice == DELETE]
        done = clean_files(deleted, folders, dry_run)
        if not dry_run:
            self.choices = {file: choice for file, choice in self.choices.items() if file not in (*deleted, *folders)}
            self.show_chosen()
        return done

"""Annotations of boxes from files: those of COCO."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from typing import Any

from layered.files import open_bounded
from layered.foundation import BadValue, StrPath, warn

Labelled = tuple[list[list[float]], list[str]]  # the boxes of an image, and a label for each


def get_annotations(fname: StrPath, prefix: str | None = None) -> tuple[list[str], list[Labelled]]:
    """The images of a file in COCO's format that have boxes, by name, and for each its boxes and their labels.

        files, labelled = get_annotations(path / "train.json", prefix="train/")
        of_file = dict(zip(files, labelled))
        get_y = [lambda file: of_file[file.name][0], lambda file: of_file[file.name][1]]

    Boxes are (left, top, right, bottom) in pixels. Those without an area, which such files have, are left out with a warning;
    so are, without one, those around a crowd ("iscrowd"), in which objects are not told apart.

    Args:
        fname: The file, JSON with "images", "annotations" and "categories".
        prefix: What to put in front of the names of the images.

    Raises:
        BadValue: The file is in another format.
        NotFoundPath: The file does not exist.
        BadFile: It cannot be read.
    """
    with open_bounded(fname) as file:
        file.most = file.size
        try:
            content: Any = json.load(file)
            names = {image["id"]: (prefix or "") + image["file_name"] for image in content["images"]}
            classes = {category["id"]: category["name"] for category in content["categories"]}
            single = [o for o in content["annotations"] if not o.get("iscrowd")]
            found = [(o["image_id"], o["bbox"], classes[o["category_id"]]) for o in single]
            if not all(isinstance(name, str) for name in classes.values()):
                raise TypeError("a category whose name is not a text")
            labelled: dict[Any, Labelled] = defaultdict(lambda: ([], []))
            empty = 0
            for image, (left, top, width, height), label in found:
                if not all(map(math.isfinite, (left, top, width, height))):
                    raise ValueError("a box that is not finite")
                if width > 0 and height > 0:
                    boxes, labels = labelled[names[image]]
                    boxes.append([left, top, left + width, top + height])
                    labels.append(label)
                else:
                    empty += 1
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise BadValue(
                f"'{fname}' does not hold annotations of COCO",
                got=f"{error!r:.200}",
                expected='{"images": [{"id", "file_name"}], "categories": [{"id", "name"}], '
                '"annotations": [{"image_id", "category_id", "bbox"}]}',
            ) from error
    if empty:
        warn(
            f"'{fname}' has {empty} box{'es' if empty > 1 else ''} without an area, which {'are' if empty > 1 else 'is'} left out"
        )
    return sorted(labelled), [labelled[name] for name in sorted(labelled)]

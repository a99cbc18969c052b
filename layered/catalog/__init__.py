"""Data sets by name: `untar_data(URLs.X)` downloads, checks and unpacks them."""

from typing import TYPE_CHECKING

from layered.catalog.catalog import URLs as URLs, untar_data as untar_data
from layered.foundation.faces import star as _star

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.catalog.cached import (
    place_of as place_of,
    removable as removable,
    remove as remove,
    size_of as size_of,
    verify as verify,
)
from layered.catalog.catalog import find_entry as find_entry, layered_home as layered_home
from layered.catalog.download import hub_file as hub_file, is_offline as is_offline
from layered.catalog.entries import Dataset as Dataset, datasets as datasets

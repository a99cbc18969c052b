"""Reading and writing files as data: the library's archives, other people's weight files, durable writes."""

from typing import TYPE_CHECKING

from layered.files.exportable import exportable as exportable
from layered.files.pickled import load_pickle as load_pickle, save_pickle as save_pickle
from layered.foundation.faces import star as _star

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.files.archive import (
    Archive as Archive,
    read_archive as read_archive,
    untied as untied,
    write_archive as write_archive,
)
from layered.files.bounded import plain_key as plain_key
from layered.files.durable import append_line as append_line, commit as commit, disk as disk, sweep as sweep
from layered.files.exportable import upgraded as upgraded
from layered.files.packing import pack as pack, unpack as unpack
from layered.files.pickled import exactly as exactly
from layered.files.torch_files import read_weights as read_weights, state_dict_of as state_dict_of

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
    Kind as Kind,
    in_order as in_order,
    read_archive as read_archive,
    read_digest as read_digest,
    untied as untied,
    write_archive as write_archive,
)
from layered.files.bounded import (
    COPY_AGAIN as COPY_AGAIN,
    exactly as exactly,
    open_bounded as open_bounded,
    parse_json as parse_json,
    plain_key as plain_key,
    read_whole as read_whole,
    reading as reading,
)
from layered.files.codec import (
    CONTAINERS as CONTAINERS,
    Scope as Scope,
    decode_tree as decode_tree,
    encode_tree as encode_tree,
    value_kinds as value_kinds,
)
from layered.files.constructors import cannot_describe as cannot_describe, weightless as weightless
from layered.files.durable import (
    append_line as append_line,
    cannot_save as cannot_save,
    commit as commit,
    disk as disk,
    joined as joined,
    real_path as real_path,
    saving as saving,
    sweep as sweep,
    temporary as temporary,
)
from layered.files.exportable import upgraded as upgraded, version_of as version_of
from layered.files.lines import read_lines as read_lines
from layered.files.torch_files import (
    read_vocab as read_vocab,
    read_weights as read_weights,
    state_dict_of as state_dict_of,
)

"""Everything for ratings: the middle floors, tables, and collaborative filtering.

from layered.collab.all import *
"""

from typing import TYPE_CHECKING

from layered.collab import *
from layered.foundation import star as _star

if not TYPE_CHECKING:
    __all__ = _star(globals())

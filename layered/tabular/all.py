"""Everything for tables: the middle floors and the tabular application.

from layered.tabular.all import *
"""

from typing import TYPE_CHECKING

from layered.basics import *
from layered.foundation import star as _star
from layered.tabular import *

if not TYPE_CHECKING:
    __all__ = _star(globals())

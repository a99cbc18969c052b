"""Everything for text: the middle floors and the text application.

from layered.text.all import *
"""

from typing import TYPE_CHECKING

from layered.basics import *
from layered.foundation import star as _star
from layered.text import *

if not TYPE_CHECKING:
    __all__ = _star(globals())

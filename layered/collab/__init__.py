"""Ratings: who would like what, learnt from who liked what.

from layered.collab import *
"""

from layered.collab.all import *
from layered.collab.all import __all__ as __all__  # or the names of submodules would come too, `all` among them

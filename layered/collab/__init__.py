"""Ratings: who would like what, learnt from who liked what.

from layered.collab import *
"""

from layered.collab.all import *

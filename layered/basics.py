"""Everything that is not about one kind of data, under one name, for notebooks.

from layered.basics import *
"""

import math as math
import os as os
import random as random
import re as re
import shutil as shutil
import string as string
import time as time
import warnings as warnings
import zipfile as zipfile
from collections import Counter as Counter, defaultdict as defaultdict
from concurrent.futures import ProcessPoolExecutor as ProcessPoolExecutor
from functools import partial as partial
from types import SimpleNamespace as SimpleNamespace
from typing import TYPE_CHECKING

import numpy
import torch as torch
from numpy import array as array
from torch import Tensor as Tensor, nn as nn

from layered.callback import *
from layered.catalog import *
from layered.data import *
from layered.files import *
from layered.foundation import *
from layered.foundation import lazy as _lazy, star as _star
from layered.inference import *
from layered.insight import *
from layered.loop import *
from layered.metrics import *
from layered.nn import *
from layered.optim import *
from layered.training import *

F, np = nn.functional, numpy
pd, plt, matplotlib = _lazy("pandas"), _lazy("matplotlib.pyplot"), _lazy("matplotlib")
del numpy

if not TYPE_CHECKING:
    __all__ = _star(globals())

"""A page to try a model, and a JSON endpoint beside it: `layered serve MODEL`.

from layered.serve import serve
"""

from typing import TYPE_CHECKING

from layered.foundation.faces import star as _star
from layered.serve.serving import serve as serve, serving as serving

if not TYPE_CHECKING:
    __all__ = _star(globals())

"""One row at a time, without a frame around it: what a service asks for thousands of times.

`RowEncoder` gives the codes and numbers that the procs give for a table of that one row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layered.data.conversions import Normalize
from layered.tabular.columns import check_row, number_of
from layered.tabular.procs import Categorify, FillMissing
from layered.tabular.types import NEEDED, OWN_PROCS, Tabular


class RowEncoder:
    """Encodes single rows as the procs of `to` do; for procs of this library only (`fits`).

    to         a processed table; its rows are not kept
    """

    def __init__(self, to: Tabular) -> None:
        self.names, self.conts = to.x_given, list(to.cont_names)
        by_type = {type(step): step for step in to.procs}
        fill, normalize, encode = (by_type.get(kind) for kind in (FillMissing, Normalize, Categorify))
        known = {**fill.fills, **fill.na_dict} if isinstance(fill, FillMissing) else {}
        self.fills = [known.get(name, to.fills.get(name, 0.0)) for name in self.conts]
        is_scaled = normalize is not None
        self.mean = np.array([normalize.mean[n] if is_scaled else 0.0 for n in self.conts])  # type: ignore[union-attr]
        self.std = np.array([normalize.std[n] if is_scaled else 1.0 for n in self.conts])  # type: ignore[union-attr]
        flags = {fill.flag_of(n): n for n in fill.na_dict} if isinstance(fill, FillMissing) and fill.add_col else {}
        self.cats = (
            [(flags.get(name, name), name in flags, encode.levels(name)) for name in to.cat_names]
            if isinstance(encode, Categorify)
            else []
        )

    @staticmethod
    def fits(to: Tabular) -> bool:
        """Whether the procs of `to` are such that rows can be encoded one by one."""
        kinds = [type(step) for step in to.procs]
        orders = [step.order for step in to.procs]
        return (
            all(kind in OWN_PROCS for kind in kinds)
            and len(set(kinds)) == len(kinds)
            and orders == [kind.order for kind in kinds]
            and (not to.cat_names or Categorify in kinds)
        )

    def __call__(self, row: Mapping[Any, Any]) -> tuple[Tensor, Tensor, list[Any]]:
        """Codes int64 [1, category], numbers float32 [1, number], and the values as they were understood, for display."""
        check_row(row, self.names, NEEDED)
        raw = {name: number_of(row[name]) for name in self.conts}
        codes, shown = [], []
        for name, is_flag, levels in self.cats:
            code = levels.code(math.isnan(raw[name]) if is_flag else row[name])
            codes.append(code)
            shown.append(levels.vocab.items[code])
        numbers = [fill if math.isnan(raw[n]) else raw[n] for n, fill in zip(self.conts, self.fills, strict=True)]
        scaled = ((np.array(numbers) - self.mean) / self.std).astype(np.float32)
        return torch.tensor([codes], dtype=torch.int64), torch.from_numpy(scaled)[None], [*shown, *numbers]

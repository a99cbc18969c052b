from __future__ import annotations

import math

import numpy as np
import pytest

from layered.foundation import BadValue, OutOfRange
from layered.optim import (
    SchedCos,
    SchedExp,
    SchedLin,
    SchedNo,
    SchedPoly,
    annealer,
    combine_scheds,
    combined_cos,
    warm_up,
)

ALL = [SchedLin(2.0, 8.0), SchedCos(2.0, 8.0), SchedExp(2.0, 8.0), SchedPoly(2.0, 8.0, 3)]


@pytest.mark.parametrize("sched", ALL, ids=repr)
def test_a_schedule_begins_at_start_and_ends_at_end(sched):
    assert sched(0.0) == pytest.approx(2.0)
    assert sched(1.0) == pytest.approx(8.0)


def test_the_middle_of_each_shape_is_as_worked_by_hand():
    assert [sched(0.5) for sched in ALL] == pytest.approx([5.0, 5.0, 4.0, 2.75])
    assert SchedNo(2.0, 8.0)(0.5) == 2.0
    assert SchedCos(0.0, 1.0)(0.25) == pytest.approx(0.5 - math.sqrt(0.5) / 2)


def test_a_schedule_over_arrays_moves_every_group():
    lrs = SchedExp(np.array([1e-4, 1e-2]), np.array([1e-2, 1.0]))(0.5)
    np.testing.assert_allclose(lrs, [1e-3, 1e-1])


def test_schedules_are_data_that_compare_and_print():
    assert SchedPoly(0, 1, 2) == SchedPoly(0, 1, 2)
    assert repr(SchedCos(0, 1)) == "SchedCos(start=0, end=1)"


def test_annealer_makes_a_schedule_of_any_function():
    @annealer
    def parabola(start, end, pos):
        return start + (end - start) * pos**2

    assert parabola(1, 3)(0.5) == 1.5


def test_combined_schedules_follow_each_other():
    sched = combine_scheds([0.25, 0.25, 0.5], [SchedLin(0, 1), SchedNo(1, 1), SchedLin(1, 3)])
    assert [sched(p) for p in (0, 0.125, 0.25, 0.4, 0.5, 0.75, 1.0)] == pytest.approx([0, 0.5, 1, 1, 1, 2, 3])


def test_shares_that_sum_to_one_but_for_rounding_are_fine():
    sched = combine_scheds([0.1] * 10, [SchedLin(i, i + 1) for i in range(10)])
    assert sched(1.0) == pytest.approx(10.0)
    assert sched(0.55) == pytest.approx(5.5)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_empty_share_is_skipped(share):
    sched = combine_scheds([share, 1 - share], [SchedLin(0, 1), SchedLin(2, 3)])
    assert sched(0.5) == (2.5 if share == 0 else 0.5)
    assert sched(1.0) == 3


def test_the_one_cycle_learning_rate_matches_its_formula():
    sched = combined_cos(0.25, 0.04, 1.0, 1e-5)
    assert sched(0.0) == pytest.approx(0.04)
    assert sched(0.25) == pytest.approx(1.0)
    assert sched(1.0) == pytest.approx(1e-5)
    assert sched(0.1) == pytest.approx(0.04 + (1 + math.cos(math.pi * (1 - 0.4))) * 0.96 / 2)


@pytest.mark.parametrize(("pcts", "count"), [([0.5, 0.4], 2), ([1.0], 2), ([1.5, -0.5], 2), ([], 0)])
def test_shares_that_do_not_fit_are_refused(pcts, count):
    with pytest.raises(BadValue):
        combine_scheds(pcts, [SchedLin(0, 1)] * count)


def test_a_warm_up_leads_to_where_the_schedule_begins():
    sched = warm_up(0.2, SchedCos(1.0, 0.0))
    assert [sched(p) for p in (0.0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0])


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (np.array([1.0, 0.0]), 1.0)])
def test_a_geometric_schedule_does_not_reach_zero(start, end):
    with pytest.raises(OutOfRange, match="geometric"):
        SchedExp(start, end)

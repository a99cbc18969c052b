import copy
import pickle

import pytest
import torch

from layered.foundation import BadArgument, BadValue
from layered.metrics import (
    AccumMetric,
    AvgMetric,
    F1Score,
    Metric,
    MetricSet,
    Precision,
    Recall,
    accuracy,
    mk_metric,
    rmse,
)
from layered.metrics.inputs import flatten_check


class Largest(Metric):
    state = ("largest",)

    def update(self, pred, targ):
        self.largest = torch.maximum(torch.as_tensor(self.largest), pred.max())

    def compute(self):
        return self.largest


class Batches(Metric):
    state = ("seen",)

    def update(self, pred, targ):
        self.seen += 1

    def compute(self):
        return self.seen


def run(metric, batches):
    metric.reset()
    for batch in batches:
        metric.update(*batch)
    return metric.value


def test_a_function_becomes_a_mean_over_samples(batches, whole):
    assert run(mk_metric(accuracy), batches) == pytest.approx(accuracy(*whole).item(), abs=1e-7)


def test_a_metric_without_data_has_no_value(batches):
    for metric in (AvgMetric(accuracy), Precision(), AccumMetric(accuracy, flatten=False), 1 - Precision()):
        assert metric.value is None
        assert run(metric, batches) is not None
        metric.reset()
        assert metric.value is None


def test_a_count_of_zero_is_a_value():
    class Errors(Metric):
        state = ("errors",)

        def update(self, pred, targ):
            self.errors += int((pred != targ).sum())

        def compute(self):
            return self.errors

    assert Errors()(torch.ones(3), torch.ones(3)) == 0


def test_calling_a_metric_leaves_it_as_it_is(batches, whole):
    metric = Precision()
    before = run(metric, batches[:1])
    metric(*whole)
    assert metric.value == before


def test_merging_two_parts_gives_the_whole(batches, whole):
    for made in (
        lambda: AvgMetric(accuracy),
        Precision,
        lambda: AccumMetric(accuracy, flatten=False),
        lambda: Precision() + Recall(),
    ):
        one, other = made(), made()
        run(one, batches[:2])
        run(other, batches[2:])
        one.merge(other)
        assert one.value == pytest.approx(made()(*whole), abs=1e-7)


def test_merging_with_a_part_that_saw_nothing_changes_nothing(batches):
    for made in (lambda: AvgMetric(accuracy), Precision, lambda: AccumMetric(accuracy, flatten=False)):
        one, empty = made(), made()
        value = run(one, batches)
        one.merge(empty)
        assert one.value == value
        empty.merge(made())
        assert empty.value is None
        empty.merge(one)
        assert empty.value == value


def test_a_clone_shares_nothing(batches):
    metric = Precision(average="macro")
    before = run(metric, batches)
    clone = metric.clone()
    assert clone.value is None
    assert clone.average == "macro"
    run(clone, batches[:1])
    assert metric.value == before


def test_arithmetic_follows_the_values(batches, whole):
    p, r = Precision(), Recall()
    f1 = 2 * p * r / (p + r)
    assert run(f1, batches) == pytest.approx(F1Score()(*whole), abs=1e-12)
    p_value, r_value = p(*whole), r(*whole)
    for metric, wanted in [
        (1 - p, 1 - p_value),
        (p - 1, p_value - 1),
        (-p, -p_value),
        (p**2, p_value**2),
        (1 + p, 1 + p_value),
        (1 / r, 1 / r_value),
        (torch.sqrt(p), p_value**0.5),
        (torch.maximum(p, r), max(p_value, r_value)),
        (torch.clamp(p, max=0.1), 0.1),
    ]:
        assert metric(*whole) == pytest.approx(wanted, abs=1e-12), metric.name


def test_indexing_picks_one_of_several_numbers(whole):
    each = Recall(average=None)
    assert each(*whole).shape == (2,)
    assert each[1](*whole) == Recall()(*whole)
    with pytest.raises(TypeError):
        iter(each)


def test_a_division_by_zero_is_nan_and_no_error():
    p, r = Precision(), Recall()
    nothing = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    assert torch.tensor((2 * p * r / (p + r))(*nothing)).isnan()


def test_expressions_are_named_by_their_formula():
    p, r = Precision(), Recall()
    f1 = 2 * p * r / (p + r)
    assert f1.name == "2 * precision_score * recall_score / (precision_score + recall_score)"
    for metric, name in [
        (p - (r - 1), "precision_score - (recall_score - 1)"),
        (p - r - 1, "precision_score - recall_score - 1"),
        ((p + r) ** 2, "(precision_score + recall_score) ** 2"),
        (p ** (r**2), "precision_score ** recall_score ** 2"),
        (-(p + r), "-(precision_score + recall_score)"),
        (-p * 2, "-precision_score * 2"),
        (abs(p - r), "abs(precision_score - recall_score)"),
        (torch.clamp(p + r, max=1), "clamp(precision_score + recall_score)"),
        ((p + r)[0], "(precision_score + recall_score)[0]"),
        (2**p, "2 ** precision_score"),
    ]:
        assert metric.name == name
    assert torch.sqrt(p).name == "sqrt(precision_score)"
    f1.name = "f1"
    assert f1.name == f1.clone().name == "f1"


def test_shared_parts_are_updated_once(batches):
    seen = Batches()
    expression = seen + seen * 0
    assert run(expression, batches) == 3
    metrics = MetricSet([seen, seen + 0, 10 * seen])
    metrics.reset()
    for batch in batches:
        metrics.update(*batch)
    assert metrics.values == [3, 3, 30]


def test_a_clone_of_an_expression_keeps_sharing(batches):
    seen = Batches()
    clone = (seen + seen).clone()
    assert run(clone, batches) == 6
    assert clone.operands[0] is clone.operands[1]
    assert seen.value is None


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(BadValue) as caught:
        flatten_check(torch.zeros(3), torch.zeros(4))
    assert caught.value.got == "predictions float32 [3], targets float32 [4]"


def test_a_metric_that_lacks_a_method_says_which():
    class Half(Metric):
        pass

    with pytest.raises(NotImplementedError, match="update"):
        Half().update(None)
    with pytest.raises(NotImplementedError, match="compute"):
        _ = Half().value
    with pytest.raises(NotImplementedError, match="merge"):
        Half().merge(Half())


def test_metrics_can_be_copied_deeply(batches):
    metric = 1 - Precision()
    value = run(metric, batches)
    assert copy.deepcopy(metric).value == value


def test_metrics_can_be_pickled_with_what_they_have_seen(batches, whole):
    p, r = Precision(), Recall()
    for metric in (p, 2 * p * r / (p + r), torch.sqrt(p), Recall(average="macro")[1], AvgMetric(accuracy)):
        again = pickle.loads(pickle.dumps(metric))
        assert (again.name, again(*whole)) == (metric.name, metric(*whole))
    seen = rmse.clone()
    seen.update(*batches[0][0].T)
    assert pickle.loads(pickle.dumps(seen)).value == seen.value


def test_the_own_collections_of_an_older_metric_are_not_shared_with_its_clones():
    class Older(Metric):
        def __init__(self):
            self.seen = []

        def reset(self):
            self.seen.clear()

        def update(self, pred, targ):
            self.seen.append(len(pred))

        @property
        def value(self):
            return sum(self.seen)

    first = Older()
    first.update(torch.zeros(3), None)
    second = first.clone()
    second.update(torch.zeros(5), None)
    assert (first.value, second.value) == (3, 5)
    assert (first + second).value == 8


@pytest.mark.parametrize("start", [[], {}, set(), torch.zeros(2)])
def test_a_state_that_all_metrics_of_the_class_would_share_is_refused(start):
    with pytest.raises(BadArgument, match="shared"):
        type("Mine", (Metric,), {"state": ("seen",), "seen": start})


def test_a_state_that_is_one_name_is_refused():
    with pytest.raises(BadArgument) as caught:
        type("Mine", (Metric,), {"state": "total"})
    assert caught.value.fix == "state = ('total',)"


def test_an_error_in_a_metric_says_which_it_was_and_what_it_was_given():
    class Distance(Metric):
        state = ("total",)

        def update(self, pred, targ):
            self.total += (pred - targ).sum()

    with pytest.raises(RuntimeError) as caught:
        Distance()(torch.zeros(4, 3), torch.zeros(4, 2))
    assert "metric 'distance', given predictions float32 [4, 3] and targets float32 [4, 2]" in caught.value.__notes__[0]
    with pytest.raises(BadValue) as caught:
        Precision()(torch.zeros(4, 2), torch.zeros(5, dtype=torch.int64))
    assert caught.value.problem.startswith("metric 'precision_score'")
    assert caught.value.got == "predictions float32 [4, 2], targets int64 [5]"
    assert "axis" in caught.value.fix


def test_a_new_metric_takes_a_few_lines(batches, whole):
    class Confidence(Metric):
        """The mean probability of the true class."""

        state = "total", "count"

        def update(self, pred, targ):
            self.total += pred.softmax(-1).gather(1, targ[:, None]).sum()
            self.count += len(targ)

        def compute(self):
            return self.total / self.count

    pred, targ = whole
    wanted = pred.softmax(-1)[torch.arange(11), targ].mean().item()
    one, other = Confidence(), Confidence()
    run(one, batches[:1])
    run(other, batches[1:])
    one.merge(other)
    assert one.value == pytest.approx(wanted)
    assert (one.name, (1 - Confidence())(*whole)) == ("confidence", pytest.approx(1 - wanted))

import copy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from layered.foundation.errors import BadArgument, BadValue
from layered.metrics.accumulated import AccumMetric, ActivationType
from layered.metrics.classification import F1Score, Precision, Recall, accuracy
from layered.metrics.metric import AvgMetric, Metric, MetricSet, ValueMetric, flatten_check, mk_metric


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


class OldStyleMetric(Metric):
    def reset(self):
        self.total = 0

    def accumulate(self, learn):
        self.total += learn.pred.sum() * learn.scale

    @property
    def value(self):
        return self.total


@pytest.fixture
def batches():
    gen = torch.Generator().manual_seed(3)
    return [(torch.randn(n, 2, generator=gen), torch.randint(0, 2, (n,), generator=gen)) for n in (4, 4, 3)]


@pytest.fixture
def whole(batches):
    return torch.cat([p for p, _ in batches]), torch.cat([t for _, t in batches])


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
    assert f1.name == "((2 * precision_score) * recall_score) / (precision_score + recall_score)"
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


def test_two_sets_given_one_object_do_not_mix(batches):
    shared = Precision()
    one, other = MetricSet([shared]), MetricSet([shared])
    for batch in batches:
        one.update(*batch)
    assert other.values == [None]
    assert shared.value is None
    assert one.names == ["precision_score"]
    assert len(one) == len(list(one)) == 1


def test_both_ways_of_writing_a_metric_work_with_a_learner(batches):
    metrics = MetricSet([accuracy, OldStyleMetric, OldStyleMetric()])
    metrics.reset()
    for pred, targ in batches:
        metrics.accumulate(SimpleNamespace(pred=pred, yb=(targ,), scale=2))
    wanted = 2 * sum(pred.sum() for pred, _ in batches)
    assert_close(metrics.values[1], wanted)
    assert_close(metrics.values[2], wanted)
    assert metrics.names == ["accuracy", "old_style", "old_style"]


def test_names_come_from_functions_through_partial_and_from_classes():
    assert mk_metric(accuracy).name == "accuracy"
    assert mk_metric(partial(partial(accuracy, axis=1))).name == "accuracy"
    assert Largest().name == "largest"
    assert mk_metric(Largest).name == "largest"
    metric = mk_metric(accuracy)
    metric.name = "acc"
    assert metric.name == "acc"


def test_a_value_metric_reads_what_is_kept_elsewhere():
    metric = mk_metric(ValueMetric(lambda: torch.tensor(4.0), "kept"))
    metric.accumulate(None)
    assert (metric.name, metric.value) == ("kept", 4.0)


class MeanSquaredError:
    """Has the methods of a torchmetrics metric."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.seen = []

    def update(self, pred, targ):
        self.seen.append((pred[:, 0] - targ) ** 2)

    def compute(self):
        return torch.cat(self.seen).mean()


def test_a_torchmetrics_object_is_adapted_and_copied(batches, whole):
    theirs = MeanSquaredError()
    metrics = MetricSet([theirs, mk_metric(theirs) * 2])
    for batch in batches:
        metrics.update(*batch)
    wanted = ((whole[0][:, 0] - whole[1]) ** 2).mean().item()
    assert metrics.values == pytest.approx([wanted, 2 * wanted])
    assert metrics.names[0] == "mean_squared_error"
    assert theirs.seen == []
    metrics.reset()
    assert metrics.values[0] is None


@pytest.mark.parametrize("what", [3, None, "nonsense"])
def test_what_is_no_metric_is_refused(what):
    with pytest.raises(BadArgument, match="metric"):
        mk_metric(what)


def test_a_function_of_the_whole_pass_does_not_depend_on_the_batches(batches, whole):
    def worst(pred, targ):
        return (pred - targ).abs().max()

    metric = AccumMetric(worst, dim_argmax=-1)
    assert run(metric, batches) == metric(*whole) == 1
    assert metric.name == "worst"


@pytest.mark.parametrize(
    ("activation", "wanted"),
    [
        (ActivationType.No, [0.0, 2.0]),
        (ActivationType.Sigmoid, [0.5, 0.880797]),
        (ActivationType.Softmax, [0.119203, 0.880797]),
        (ActivationType.BinarySoftmax, [0.880797]),
    ],
)
def test_activations_are_applied_first(activation, wanted):
    seen = []
    metric = AccumMetric(lambda p, t: seen.append(p) or 0.0, activation=activation, flatten=False)
    metric(torch.tensor([[0.0, 2.0]]), torch.tensor([1]))
    assert_close(seen[0].flatten(), torch.tensor(wanted))


def test_arguments_reach_the_function_as_asked():
    def f(targ, pred, scale):
        assert type(pred).__module__ == type(targ).__module__ == "numpy"
        return float((pred.astype(float) * scale + targ).sum())

    metric = AccumMetric(f, thresh=0.5, to_np=True, invert_arg=True, scale=10, name="f")
    assert metric(torch.tensor([0.2, 0.5, 0.9]), torch.tensor([1, 2, 3])) == 26


def test_an_unknown_activation_is_refused():
    with pytest.raises(BadValue, match="relu"):
        AccumMetric(accuracy, activation="relu")


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(BadValue) as caught:
        flatten_check(torch.zeros(3), torch.zeros(4))
    assert caught.value.got == "3 predictions, 4 targets"


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

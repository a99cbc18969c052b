"""Where the targets of a batch are, and that a fit without any loss is an error."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from layered.foundation import BadArgument, CannotTrain
from layered.metrics import accuracy
from layered.nn import CrossEntropyLossFlat
from layered.training import Learner

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
Y = torch.randint(4, (12,), generator=torch.Generator().manual_seed(1))


class Output(dict):
    """As transformers': a mapping whose entries are attributes too."""

    __getattr__ = dict.__getitem__


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 4)

    def forward(self, x, labels=None):
        logits = self.layer(x)
        return Output(loss=None if labels is None else F.cross_entropy(logits, labels), logits=logits, hidden=x)


class WithKeywords(Classifier):
    def forward(self, x, labels=None, **kwargs):
        return super().forward(x, labels)


class WithoutLabels(Classifier):
    def forward(self, x):
        return {"logits": super().forward(x)["logits"]}


def batches(name="labels", sizes=(5, 7)):
    return [{"x": x, name: y} for x, y in zip(X.split(sizes), Y.split(sizes), strict=True)]


def learner(model, loss_func, data=None, **kwargs) -> Learner:
    data = batches() if data is None else data
    learn = Learner((data, data), model, loss_func, metrics=accuracy, **kwargs)
    learn.logger = lambda row: None
    return learn


@pytest.mark.parametrize(
    ("model", "loss_func"),
    [
        (Classifier, None),
        (WithKeywords, None),
        (Classifier, nn.CrossEntropyLoss()),
        (WithKeywords, CrossEntropyLossFlat()),
        (WithoutLabels, F.cross_entropy),
        (Classifier, lambda output, labels: F.cross_entropy(output.logits, labels)),
    ],
)
@pytest.mark.parametrize("name", ["labels", "label"])
def test_labels_of_a_mapping_are_targets_and_logits_the_prediction(model, loss_func, name):
    if name == "label" and loss_func is None:
        pytest.skip("the model's argument is called labels")
    learn = learner(model(), loss_func, batches(name))
    logits = learn.model.layer(X).detach()
    loss, score = learn.validate()
    assert loss == pytest.approx(F.cross_entropy(logits, Y).item())
    assert score == pytest.approx((logits.argmax(1) == Y).float().mean().item())
    preds, targets = learn.get_preds(act=lambda output: output["logits"])
    assert_close((preds, targets), (logits, Y))
    before = learn.model.layer.weight.detach().clone()
    learn.fit(1)
    assert not torch.equal(learn.model.layer.weight, before)


def test_predictions_of_a_model_with_a_loss_of_its_own_are_its_logits():
    learn = learner(Classifier(), None)
    assert_close(learn.get_preds(), (learn.model.layer(X).detach(), Y))


def test_ignored_labels_do_not_count_in_the_loss_of_the_model():
    y = torch.where(torch.arange(12) % 3 == 0, -100, Y)
    data = [{"x": a, "labels": b} for a, b in zip(X.split([1, 1, 10]), y.split([1, 1, 10]), strict=True)]
    learn = learner(Classifier(), None, data)
    learn.metrics = []
    assert learn.validate() == [pytest.approx(F.cross_entropy(learn.model.layer(X), y).item())]


@pytest.mark.parametrize("data", [list(X.split(4)), [(x,) for x in X.split(4)]])
def test_an_epoch_without_any_loss_is_an_error(data):
    learn = learner(nn.Linear(3, 4), nn.CrossEntropyLoss(), data)
    with pytest.raises(CannotTrain, match=r"(?s)no training batch of epoch 0 had a loss.*without targets.*labels"):
        learn.fit(2)
    learn = learner(nn.Linear(3, 4), None, data, step=lambda learn, batch: None)
    with pytest.raises(CannotTrain, match=r"(?s)had a loss.*step that returned None"):
        learn.fit(1)


def test_a_batch_in_between_may_be_without_targets():
    learn = learner(nn.Linear(3, 4), nn.CrossEntropyLoss(), [(X[:6], Y[:6]), (X[6:],)])
    learn.fit(1)
    assert len(learn.recorder.losses) == 1


class Size(nn.Module):
    def forward(self, pred):
        return pred.pow(2).mean()


@pytest.mark.parametrize("loss_func", [Size(), lambda pred: pred.pow(2).mean()])
def test_a_loss_of_the_prediction_alone_needs_no_targets(loss_func):
    learn = learner(nn.Linear(3, 4), loss_func, list(X.split(4)))
    assert learn.validate()[0] == pytest.approx(learn.model(X).pow(2).mean().item())
    before = learn.model.weight.detach().norm()
    learn.fit(1, 0.1)
    assert learn.model.weight.norm() < before


def test_a_step_that_sets_the_prediction_has_metrics_and_predictions():
    def step(loop, batch):
        loop.pred = loop.model(batch[0])
        return F.cross_entropy(loop.pred, batch[1])

    data = list(zip(X.split(4), Y.split(4), strict=True))
    learn = learner(nn.Linear(3, 4), None, data, step=step)
    logits = learn.model(X).detach()
    assert learn.validate()[1] == pytest.approx((logits.argmax(1) == Y).float().mean().item())
    assert_close(learn.get_preds(), (logits, Y))


def test_a_step_that_keeps_its_prediction_says_so():
    data = list(zip(X.split(4), Y.split(4), strict=True))
    learn = learner(nn.Linear(3, 4), None, data, step=lambda loop, b: F.cross_entropy(loop.model(b[0]), b[1]))
    with pytest.raises(BadArgument, match=r"(?s)'accuracy' needs predictions.*loop\.pred = "):
        learn.validate()
    learn.metrics = []
    with pytest.raises(CannotTrain, match=r"(?s)gives no prediction.*loop\.pred = "):
        learn.get_preds()

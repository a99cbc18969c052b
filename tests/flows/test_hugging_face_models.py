"""Models of transformers with a head, trained as in the Hugging Face course: dicts with labels, and the model's own loss."""

import contextlib

import pytest
import torch
import transformers
from torch.utils.data import DataLoader

from layered.loop import Callback, Checkpoint
from layered.metrics import accuracy
from layered.training import Learner

IDS = torch.randint(5, 40, (56, 6), generator=torch.Generator().manual_seed(1))
SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def rows(labels):
    return [
        {"input_ids": ids[: 4 + i % 3].tolist(), "attention_mask": [1] * (4 + i % 3), "labels": label}
        for i, (ids, label) in enumerate(zip(IDS, labels, strict=True))
    ]


def padded(batch):
    """What DataCollatorWithPadding makes: a batch as long as its longest text."""
    size = max(len(row["input_ids"]) for row in batch)
    made = {
        name: [row[name] + [0] * (size - len(row[name])) for row in batch] for name in ("input_ids", "attention_mask")
    }
    return transformers.BatchEncoding({**made, "labels": [row["labels"] for row in batch]}, tensor_type="pt")


def loaders(labels=None):
    items = rows([int(ids[0] > 20) for ids in IDS] if labels is None else labels)
    return (
        DataLoader(items[:40], batch_size=8, shuffle=True, collate_fn=padded),
        DataLoader(items[40:], batch_size=8, collate_fn=padded),
    )


def classifier(**config):
    torch.manual_seed(3)
    return transformers.AutoModelForSequenceClassification.from_config(
        transformers.BertConfig(vocab_size=40, max_position_embeddings=16, **SIZES, **config)
    )


class Stopped(Exception):
    pass


class Stop(Callback):
    observes = True
    state_kinds = ()
    transient = ("at",)

    def __init__(self, at):
        self.at = at

    def after_batch(self):
        if self.learn.train_iter == self.at:
            raise Stopped


def fitted(at=-1, seed=7, **fit_args):
    learn = Learner(loaders(), classifier(), metrics=accuracy, lr=3e-3, opt_func=torch.optim.AdamW, cbs=Stop(at))
    torch.manual_seed(seed)
    with learn.no_bar(), learn.no_logging(), contextlib.suppress(Stopped):
        learn.fit(3, **fit_args)
    return learn


def test_it_trains_as_the_loop_of_the_course():
    learn = fitted()
    model = classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    train, valid = loaders()
    torch.manual_seed(7)
    for _ in range(3):
        model.train()
        for batch in train:
            model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            outputs = [(model(**batch), batch["labels"]) for batch in valid]
    assert all(map(torch.equal, learn.model.state_dict().values(), model.state_dict().values()))
    logits, labels = torch.cat([out.logits for out, _ in outputs]), torch.cat([y for _, y in outputs])
    assert learn.recorder.history[-1]["valid_loss"] == pytest.approx(sum(out.loss.item() for out, _ in outputs) / 2)
    assert learn.recorder.history[-1]["accuracy"] == (logits.argmax(1) == labels).float().mean().item()
    preds, targets, decided = learn.get_preds(with_decoded=True)
    assert torch.equal(preds, logits)
    assert torch.equal(targets, labels)
    assert torch.equal(decided, logits.argmax(1))


def test_a_stopped_fit_goes_on(tmp_path):
    whole = fitted()
    fitted(9, checkpoint=Checkpoint(tmp_path, every="3 batches"))
    learn = fitted(seed=99, checkpoint=Checkpoint(tmp_path, every="3 batches"), resume="auto")
    assert all(map(torch.equal, learn.model.state_dict().values(), whole.model.state_dict().values()))
    assert learn.recorder.values == whole.recorder.values


@pytest.mark.parametrize(
    ("labels", "config", "decide"),
    [
        ([[1.0, 0.0, float(ids[0] > 20)] for ids in IDS], {"num_labels": 3}, lambda logits: logits > 0),
        ([float(ids[0]) / 40 for ids in IDS], {"num_labels": 1}, lambda logits: logits),
    ],
)
def test_its_decisions_are_of_the_kind_that_its_loss_has_found(labels, config, decide):
    learn = Learner(loaders(labels), classifier(**config), lr=1e-3)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    preds, _, decided = learn.get_preds(with_decoded=True)
    assert torch.equal(decided, decide(preds))


def test_targets_of_a_causal_model_are_the_tokens_that_its_logits_predict():
    def collated(batch):
        made = padded(batch)
        return {**made, "labels": made["input_ids"].masked_fill(made["attention_mask"] == 0, -100)}

    items = rows([0] * len(IDS))
    loader = DataLoader(items, batch_size=5, collate_fn=collated)
    torch.manual_seed(3)
    model = transformers.BertLMHeadModel(
        transformers.BertConfig(vocab_size=40, max_position_embeddings=16, is_decoder=True, **SIZES)
    ).eval()
    learn = Learner((loader, loader), model, metrics=accuracy)
    loss, right = learn.validate()
    total = hits = count = 0
    with torch.no_grad():
        for batch in loader:
            out, following = model(**batch), batch["labels"][:, 1:]
            counted = following != -100
            total += out.loss.item() * counted.sum().item()
            hits += (out.logits[:, :-1].argmax(-1) == following)[counted].sum().item()
            count += counted.sum().item()
    assert loss == pytest.approx(total / count, rel=1e-6)
    assert right == pytest.approx(hits / count, rel=1e-6)
    _, targets = learn.get_preds()
    assert targets[0].tolist() == [*IDS[0][1:4].tolist(), -100, -100, -100]


def test_a_model_that_answers_questions_has_positions_as_targets():
    items = [{**row, "start_positions": 1, "end_positions": 2} for row in rows([0] * len(IDS))]

    def collated(batch):
        starts, ends = ([row[name] for row in batch] for name in ("start_positions", "end_positions"))
        ids = {name: part for name, part in padded(batch).items() if name != "labels"}
        return {**ids, "start_positions": torch.tensor(starts), "end_positions": torch.tensor(ends)}

    loader = DataLoader(items, batch_size=8, collate_fn=collated)
    config = transformers.BertConfig(vocab_size=40, max_position_embeddings=16, **SIZES)
    learn = Learner((loader, loader), transformers.AutoModelForQuestionAnswering.from_config(config), lr=1e-3)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    preds, (starts, ends) = learn.get_preds()
    assert len(preds["start_logits"]) == len(starts) == len(IDS)
    assert set(starts.tolist()) == {1}
    assert set(ends.tolist()) == {2}

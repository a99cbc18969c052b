"""Predictions as JSON: of several items in one batch where that is possible, with what the library warned of."""

from __future__ import annotations

import base64
import io
import json
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from torch import Tensor

from layered.data import as_dataset, as_loader, class_vocab
from layered.foundation import BadItem, BadValue, LayeredError, to_detach
from layered.inference import is_unsure
from layered.serve.inputs import input_of
from layered.serve.questions import Question
from layered.tabular import Tabular, TabularLearner
from layered.text import LMLearner
from layered.training import Learner
from layered.vision import to_image

Answer = dict[str, Any]
OF_BATCHES = ("category", "multicategory", "regression")  # kinds of targets with one row of numbers for each item
WORDS = 30  # that a language model adds


class Answers:
    """What a learner says of items, as JSON. Only one thread may ask.

    Args:
        learn: The learner.

    Attributes:
        input: What the model is asked about.
        kinds: The kinds of its targets.
        vocab: The names of its classes, if it has any.
    """

    def __init__(self, learn: Learner) -> None:
        self.learn, self.input = learn, input_of(learn)
        self.kinds = as_dataset(as_loader(learn.dls.valid).dataset).target_kinds
        is_language = isinstance(learn, LMLearner)
        self.vocab = [] if is_language else [str(name) for name in class_vocab(learn.dls) or ()]
        self.by_batch = len(self.kinds) == 1 and self.kinds[0] in OF_BATCHES and not is_language
        self.names = [str(name) for name in getattr(learn.dls.valid.dataset, "y_names", ())]

    def described(self) -> Answer:
        """What a client has to know to ask and to read the answers."""
        return {"input": self.input.described(), "targets": self.kinds, "names": self.names, "classes": self.vocab}

    def of_questions(self, questions: Sequence[Question]) -> list[Answer | Exception]:
        """The answer to each question, or its error.

        A batch that fails or warns is answered item by item, so that each answer has what belongs to it.

        Args:
            questions: With items that `Input.item` made.
        """
        if self.by_batch and len(questions) > 1:
            with suppress(Exception):  # whatever it is, it is met again below
                answers = self._answered(questions)
                if not any("warnings" in answer for answer in answers):
                    return [*answers]
        return [self._alone(question) for question in questions]

    def _alone(self, question: Question) -> Answer | Exception:
        try:
            return self._answered([question])[0]
        except LayeredError as error:
            return first_cause(error)
        except Exception as error:
            return error

    def _answered(self, questions: Sequence[Question]) -> list[Answer]:
        items = [question.item for question in questions]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            is_batch = self.by_batch and len(items) > 1
            answers = self._batch(items) if is_batch else [self._single(item) for item in items]
        said = list(dict.fromkeys(str(o.message) for o in caught if o.category is UserWarning))
        for answer, question in zip(answers, questions, strict=True):
            _check_finite(answer)
            answer.update({"warnings": said} if said else {})
            answer.update({"looked_at": self.looked_at(question.item)} if question.explain else {})
        return answers

    def _batch(self, items: Sequence[Any]) -> list[Answer]:
        strict = {"strict": True, "with_labels": False} if self.input.kind == "row" else {}
        dl = self.learn.dls.test_dl(list(items), num_workers=0, **strict)
        with self.learn.no_bar():
            predictions, _, decisions = self.learn.get_preds(dl=dl, with_decoded=True)
        rows = predictions.reshape(len(items), -1).tolist()
        answers = [self._answer(numbers, decision) for numbers, decision in zip(rows, decisions, strict=True)]
        if self.kinds[0] == "category":
            for answer, decision, shares in zip(answers, decisions, predictions, strict=True):
                if is_unsure(self.learn, decision, shares, None):
                    answer["prediction"] = None
        return answers

    def _answer(self, numbers: list[float], decision: Tensor) -> Answer:
        kind = self.kinds[0]
        if kind == "regression":
            if len(numbers) == 1:
                return {"prediction": numbers[0]}
            return {
                "prediction": dict(zip(self.names, numbers, strict=True))
                if len(self.names) == len(numbers)
                else numbers
            }
        named = dict(zip(self.vocab, numbers, strict=True)) if len(self.vocab) == len(numbers) else numbers
        if kind == "category":
            return {"prediction": self.vocab[int(decision)], "probabilities": named}
        return {"prediction": [self.vocab[i] for i in decision.flatten().nonzero().flatten()], "probabilities": named}

    def _single(self, item: Any) -> Answer:
        if isinstance(self.learn, LMLearner):
            return {"prediction": self.learn.predict(item, WORDS)}
        target, decision, numbers = self._predicted(item)
        if self.by_batch:
            return self._answer(numbers.flatten().tolist(), decision)
        if isinstance(target, Tabular):
            target = {str(name): target.items[name].iloc[0] for name in target.y_names}
        return {"prediction": plain_json(target), "numbers": plain_json(numbers)}

    def _predicted(self, item: Any) -> tuple[Any, ...]:
        """What `predict` says; rows with values that training has not seen are refused."""
        if self.input.kind != "row":
            return self.learn.predict(item)
        if isinstance(self.learn, TabularLearner):
            return self.learn.predict(item, strict=True)
        self.learn.dls.test_dl([item], strict=True, with_labels=False)
        return self.learn.predict(item)

    def looked_at(self, item: Any) -> Answer:
        """The image as the model sees it, and how much each place of it counts in favour of the predicted class.

        Args:
            item: The bytes of an image.

        Returns:
            "image", a PNG as a data URL, and "map", rows of numbers from 0 to 1; or "error", for a model that has no such map.
        """
        dl = self.learn.dls.test_dl([item], bs=1, num_workers=0)
        batch = dl.one_batch()
        try:
            (places,) = self.learn.grad_cam(batch[0])
            seen = io.BytesIO()
            to_image(dl.decode_batch(batch, max_n=1)[0][0]).save(seen, "PNG")
        except LayeredError as error:
            return {"error": error.problem}
        image = base64.b64encode(seen.getvalue()).decode()
        return {"image": f"data:image/png;base64,{image}", "map": places.cpu().round(decimals=3).tolist()}


def _check_finite(answer: Answer) -> None:
    """Refuse NaN and infinity, as of a model whose training has diverged: no class is the right one, and JSON has neither."""
    try:
        json.dumps(answer, allow_nan=False)
    except ValueError:
        expected = "finite parameters, and an input as in training"
        raise BadValue("the model's answer is not a finite number", expected=expected) from None


def first_cause(error: LayeredError) -> LayeredError:
    """The error without the stages of the pipeline that it went through."""
    while isinstance(error.__cause__, LayeredError):
        error = error.__cause__
    return BadItem("the model cannot take this", got=error.got) if type(error) is BadItem else error


def plain_json(value: object) -> Any:
    """A decoded target as JSON: arrays as numbers, several targets as an array or by name, and labels as text."""
    if isinstance(value, (Tensor, np.generic)):
        return value.tolist() if isinstance(value, np.generic) else to_detach(value).tolist()
    if isinstance(value, dict):
        return {name: plain_json(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(part) for part in value]
    return value if isinstance(value, (str, int, float)) or value is None else str(value)

"""From the body of a request to questions."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, NamedTuple

from layered.files import parse_json
from layered.foundation import BadFile, BadValue, LayeredError, OutOfRange, nearest
from layered.serve.inputs import Input
from layered.serve.requests import Refused

MOST_ITEMS = 64
_NAMES = ("item", "items", "explain")
_SHAPE = '{"item": …} or {"items": [..., …]}'


class Question(NamedTuple):
    """An item, and whether the answer is to show what the model looked at."""

    item: Any
    explain: bool = False


def questions_in(body: bytes, source: Input) -> tuple[list[Question], bool]:
    """The questions in a body of JSON, and whether they are a list.

    Args:
        body: The body.
        source: What the model is asked about.

    Raises:
        Refused: It is not JSON, has another shape, or holds something else than inputs of this model.
    """
    try:
        request = parse_json(body, "the body")
    except BadFile as error:
        raise Refused.for_error(HTTPStatus.BAD_REQUEST, error, with_fix=False) from None
    if not isinstance(request, dict) or ("item" in request) == ("items" in request):
        raise Refused(HTTPStatus.BAD_REQUEST, "the body is of another shape", expected=_SHAPE)
    for name in request:
        if name not in _NAMES:
            near = nearest(name[:100], _NAMES, 1)
            fix = f"did you mean {near[0]!r}?" if near else None
            raise Refused(
                HTTPStatus.BAD_REQUEST, f"there is no field {name[:100]!r}", expected=", ".join(_NAMES), fix=fix
            )
    explain, is_list = request.get("explain", False), "items" in request
    values = request["items"] if is_list else [request["item"]]
    if not isinstance(values, list) or not values:
        raise Refused(HTTPStatus.BAD_REQUEST, "items is not a list of at least one item", expected=_SHAPE)
    if len(values) > MOST_ITEMS:
        got, expected = f"{len(values)} items", f"at most {MOST_ITEMS}"
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too many items in one request", got=got, expected=expected)
    if not isinstance(explain, bool):
        raise Refused(HTTPStatus.BAD_REQUEST, "explain is true or false")
    if explain and (is_list or source.kind != "image"):
        raise Refused(
            HTTPStatus.BAD_REQUEST, "only one image alone can be explained", expected='{"item": …, "explain": true}'
        )
    return [question(value, source, explain, i if is_list else None) for i, value in enumerate(values)], is_list


def question(value: object, source: Input, explain: bool, number: int | None = None) -> Question:
    """The question about one value.

    Args:
        value: From JSON, or the bytes of an image.
        source: What the model is asked about.
        explain: Whether to show what the model looked at.
        number: Its place in a list.

    Raises:
        Refused: It is not an input of this model.
    """
    try:
        return Question(source.item(value), explain)
    except OutOfRange as error:
        raise Refused.for_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error, item=number) from None
    except LayeredError as error:
        is_own = isinstance(error, BadValue)  # the fix of others is for Python
        raise Refused.for_error(HTTPStatus.UNPROCESSABLE_ENTITY, error, with_fix=is_own, item=number) from None

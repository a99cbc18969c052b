"""The hub of Hugging Face: a learner goes there as one exported file and its card, and comes back as that file alone."""

from __future__ import annotations

import os
import re
import tempfile
from typing import Any

from layered.catalog import is_offline
from layered.foundation import (
    BadValue,
    CannotSave,
    LayeredError,
    NotFoundPath,
    Offline,
    Path,
    checked,
    one_line,
    require,
)
from layered.loop import Loop
from layered.training.card import card
from layered.training.export import export

SCHEME = "hf://"
FILE = "model.layered"
_ADDRESS = re.compile(r"(?:hf://)?([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?", re.ASCII)
_LOG_IN = "hf auth login, or the variable HF_TOKEN, with a token of huggingface.co/settings/tokens"


@checked
def push_to_hub(
    loop: Loop,
    repo: str,
    *,
    private: bool | None = None,
    message: str = "A model of layered",
    about: str | None = None,
    limits: str | None = None,
    licence: str | None = None,
    text: str | None = None,
) -> str:
    """Export the learner to a repository of the hub, with its card as README.md, in one commit.

    Nothing else leaves this machine. The repository is made if it does not exist, and what it held stays in its history.

    Args:
        loop: The learner.
        repo: "me/x", or "me/x@branch".
        private: Whether a new repository is private; None leaves that to the account.
        message: Of the commit.
        about: What the model is for, for the card.
        limits: What it is not for, for the card.
        licence: For the card: "mit".
        text: The card itself, in place of one that is made.

    Returns:
        What `load_learner` takes to load exactly this: "hf://me/x@" and the commit.

    Raises:
        BadValue: `repo` is not such a name.
        MissingDependency: The package `huggingface_hub` is not installed.
        NotExportable: A part of the learner has no registered name; nothing was sent.
        CannotSave: The hub refuses: not logged in, no right to write there, or no connection.
    """
    name, branch = parse_address(repo)
    hub = require("huggingface_hub", extra="hub", why="the hub")
    written = text if text is not None else card(loop, about, limits, licence, f"{SCHEME}{name}")
    with tempfile.TemporaryDirectory() as folder:
        file = export(loop, Path(folder) / FILE)
        try:
            api = hub.HfApi()
            api.create_repo(name, private=private, exist_ok=True)
            if branch is not None:
                api.create_branch(name, branch=branch, exist_ok=True)
            parts = {FILE: os.fspath(file), "README.md": written.encode()}
            operations = [
                hub.CommitOperationAdd(path_in_repo=path, path_or_fileobj=part) for path, part in parts.items()
            ]
            commit = api.create_commit(name, operations, commit_message=message, revision=branch)
        except Exception as error:  # of the hub, or of the client of HTTP below it
            raise _not_pushed(error, name) from error
    return f"{SCHEME}{name}@{commit.oid}"


def fetched(address: str) -> Path:
    """The exported file of a repository, in the cache of the hub; no other file of it is downloaded.

    Args:
        address: "hf://me/x", or with a branch, a tag or a commit "hf://me/x@v1".

    Raises:
        BadValue: It is not such an address.
        MissingDependency: The package `huggingface_hub` is not installed.
        NotFoundPath: There is no such repository or revision, or it holds no model of this library.
        Offline: The hub cannot be reached, and the file was not fetched before.
    """
    name, revision = parse_address(address)
    hub = require("huggingface_hub", extra="hub", why=f"'{address}'")
    errors = require("huggingface_hub.errors", extra="hub", why=f"'{address}'")
    try:
        return Path(hub.HfApi().hf_hub_download(name, FILE, revision=revision, local_files_only=is_offline()))
    except (OSError, ValueError, errors.EntryNotFoundError) as error:
        raise _not_fetched(error, address) from error


def parse_address(address: str) -> tuple[str, str | None]:
    """The name of a repository, and the revision.

    Args:
        address: "me/x", "me/x@v1", with or without "hf://" before it.

    Raises:
        BadValue: It is something else.

    Examples:
        >>> parse_address("hf://me/x@v1"), parse_address("me/x")
        (('me/x', 'v1'), ('me/x', None))
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or ".." in address:
        raise BadValue(
            "this is not the name of a repository of the hub",
            got=repr(address),
            expected="an owner and a name, and if need be a branch, a tag or a commit",
            fix="'hf://me/x', or 'hf://me/x@v1'",
        )
    return found[1], found[2]


def _not_pushed(error: Exception, name: str) -> LayeredError:
    errors: Any = require("huggingface_hub.errors", extra="hub", why="the hub")
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    problem = f"the model could not be pushed to '{name}'"
    if isinstance(error, errors.LocalTokenNotFoundError) or status == 401:
        return CannotSave(f"{problem}: you are not logged in", fix=_LOG_IN)
    if status in (403, 404):
        return CannotSave(
            f"{problem}: you may not write there",
            got=_said(error),
            fix="a repository of your own, and a token that may write",
        )
    return CannotSave(problem, got=_said(error), fix=None if status else "check the network, and try again")


def _not_fetched(error: Exception, address: str) -> LayeredError:
    errors: Any = require("huggingface_hub.errors", extra="hub", why="the hub")
    name = parse_address(address)[0]
    if isinstance(error, errors.GatedRepoError):
        return NotFoundPath(
            f"'{address}' asks for your consent first", fix=f"https://huggingface.co/{name}, and {_LOG_IN}"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        fix = f"check the name; if it is private, {_LOG_IN}"
        return NotFoundPath(f"there is no repository '{name}' on the hub, or you may not read it", fix=fix)
    if isinstance(error, errors.RevisionNotFoundError):
        return NotFoundPath(
            f"'{name}' has no such revision", got=address, fix=f"hf://{name}, or one of its branches, tags and commits"
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return NotFoundPath(
            f"'{address}' is not a model of this library",
            got=f"a repository without a file {FILE}",
            expected="one that learn.push_to_hub has written",
            fix="the library that its card names",
        )
    return Offline(
        f"'{address}' could not be fetched",
        got=_said(error),
        fix="check the network, and LAYERED_OFFLINE if you have set it",
    )


def _said(error: Exception) -> str:
    return one_line(str(error), 200)

"""What format 1 said is read as format 2 says it, with the checks of format 2."""

import copy
import json
from pathlib import Path

import pytest
from fixtures import described

from layered.files import Scope, decode_tree, encode_tree, read_archive
from layered.files.format_1 import upgraded_manifest
from layered.foundation import BadFile

FILE = Path(__file__).parents[1] / "fixtures" / "format_1" / "described.layered"


def described_again(node, tensors, scope):
    """The node of format 2 that the object read from a file has."""
    return encode_tree(decode_tree(node, tensors, scope), {}, "" if scope is Scope.MODEL else "data", scope)


def test_a_model_of_format_1_is_the_model_that_was_described():
    node = read_archive(FILE).manifest["model"]
    assert described_again(node, {}, Scope.MODEL) == encode_tree(described.model(), {}, "", Scope.MODEL)
    model = decode_tree(node, {}, Scope.MODEL)
    assert model[2][0][0] is model[2][0][1]
    assert model[2][1][1]["a"] is model[2][1][1]["b"]
    assert model[3][0] is model[3][1][0]


def test_data_of_format_1_are_the_objects_that_were_described():
    archive = read_archive(FILE)
    node = archive.manifest["data"]
    assert node["$loader"] == "tests.loader"
    assert described_again(node["args"], archive.tensors, Scope.DATA) == encode_tree(
        described.data(), {}, "data", Scope.DATA
    )


def test_the_manifests_of_states_stay_as_they_are():
    manifest = {"state": {"@": "pipeline"}, "model": {"kind": 1}}
    assert upgraded_manifest(manifest, "checkpoint") is manifest


@pytest.mark.parametrize(
    "part",
    [
        {"model": {"tree": {"kind": "torch.ReLU"}}},
        {"model": {"tree": {"same": "0"}}},
        {"model": {"tree": {"kind": "torch.ReLU", "args": []}}},
        {"model": {"tree": {"kind": "torch.ReLU", "args": {"inplace": {"code": "1"}}}}},
        {"model": {"tree": None}},
        {"loss": {"@": "exec"}},
        {"loss": [{"@": "transform", "kind": "Resize"}]},
        {"data": {"loader": "x", "state": [{"@": []}]}},
    ],
    ids=json.dumps,
)
def test_what_format_1_did_not_say_is_refused(part):
    given = copy.deepcopy(part)
    with pytest.raises(BadFile):
        upgraded_manifest(part, "export")
    assert part == given

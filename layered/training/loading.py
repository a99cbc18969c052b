"""Loading an export: names in the file are looked up in registries that the library or the caller filled.

Nothing that a file asks for is imported or run. `layered.training.export` describes the manifest.
"""

from __future__ import annotations

import os
from typing import Any

from torch import Tensor, nn

from layered.data import DataLoaders, Datasets, TfmdDL, TfmdLists
from layered.files import Archive, Scope, decode_tree, exactly, joined, read_archive, reading, upgraded, weightless
from layered.foundation import (
    BadFile,
    CannotRestore,
    ItemTransform,
    LayeredError,
    NotFoundPath,
    Path,
    Pipeline,
    Registry,
    Transform,
    UnknownName,
    builders,
    checked,
    default_device,
    learner_kinds,
    loader_kinds,
    warn,
)
from layered.inference import set_calibration
from layered.loop import check_fits
from layered.metrics import metrics_from_described
from layered.nn import Calibration, rebuild_module
from layered.training.export import SLOTS, layered_name
from layered.training.hub import SCHEME, fetched
from layered.training.learner import Learner

MAX_COLUMNS = 1000
APPS = {  # prefix of a registered name → the import that registers it
    "vision": "layered.vision.all",
    "tabular": "layered.tabular.all",
    "collab": "layered.collab.all",
    "text": "layered.text.all",
}
CONVERT = (
    "convert another library's learner where it was made: torch.save({'model': learn.model.state_dict()}, 'weights.pth') and "
    "json.dump(list(learn.dls.vocab), open('vocab.json', 'w')); here, build the same model and learn.load('weights.pth'), "
    "or vision_learner(..., weights='weights.pth')"
)


@checked
def load_learner(fname: str | os.PathLike[str], cpu: bool = True, *, model: nn.Module | None = None) -> Learner:
    """A learner from a file that `export` wrote, ready to predict, in any process and without the script that trained it.

    Args:
        fname: The file. If `x.pkl` does not exist, `x.layered` beside it is opened, with a warning. "hf://me/x" is what
            `push_to_hub` wrote to the hub, "hf://me/x@v1" a branch, a tag or a commit of it.
        cpu: Keep the model on the CPU; False moves it to the default device.
        model: The module itself, where the file does not say how to build it; its weights are replaced.

    Returns:
        A learner in eval mode, without items.

    Raises:
        NotFoundPath: There is no such file, or no such repository or revision on the hub.
        Offline: The hub cannot be reached.
        BadFile: The file is not an export, or is damaged.
        NewerFormat: A later version of the library wrote it.
        UnknownName: It names a kind or function that is not registered; the error gives the import that registers it.
        CannotRestore: It does not say how to build the model, or `model` does not fit its weights.
    """
    if isinstance(fname, str) and fname.startswith(SCHEME):
        learn = learner_from(_read(fetched(fname)), model)
        learn.path = Path()  # rather than the cache of the hub
    else:
        learn = learner_from(_read(_find(joined(fname))), model)
    return learn if cpu else learn.to(default_device())


def learner_from(archive: Archive, model: nn.Module | None = None) -> Learner:
    """The learner that the manifest of an export describes.

    Args:
        archive: The manifest and the tensors that it names.
        model: The module itself, where the manifest does not say how to build it.

    Raises:
        BadFile: The manifest is not that of an export.
        UnknownName: It names a kind or function that is not registered; the error gives the import that registers it.
        CannotRestore: It does not say how to build the model, or `model` does not fit its weights.
    """
    path = Path(archive.path)
    try:
        dls = _build_loaders(archive)
        loss_func = decode_tree(archive.manifest["loss"], archive.tensors, Scope.DATA)
        weights = {k.removeprefix("model."): v for k, v in archive.tensors.items() if k.startswith("model.")}
        recipe = _recipe(archive)
        net = _load_model(path, archive.manifest["model"], recipe, weights, model)
        kind = archive.manifest.get("learner")
        make = Learner if kind is None else learner_kinds.get(kind)
        calibration = _calibration(archive)
        metrics = metrics_from_described(archive.manifest.get("metrics", []), path.name)
        learn: Learner = make(dls, net, loss_func=loss_func, path=path.parent, metrics=metrics)
    except UnknownName as error:
        raise _with_import_hint(error, path) from error
    except LayeredError:
        raise
    except Exception as error:  # constructors of any kind, called with what the file says
        raise BadFile(
            f"'{path}' does not have the parts of an export", got=f"{type(error).__name__}: {error}"
        ) from error
    # Without a loss the constructor picks a default, whose decoding could change the predictions.
    learn.loss_func = loss_func
    learn.recipe, learn.exported = recipe, path.name
    set_calibration(learn, calibration)
    return learn


def _calibration(archive: Archive) -> Calibration | None:
    node = archive.manifest.get("calibration")
    if node is None:
        return None
    scores, ranks = (archive.tensors[f"calibration.{name}"] for name in ("scores", "ranks"))
    return Calibration.from_described(exactly(dict, node), scores, ranks)


def _find(path: Path) -> Path:
    """`path`, or where it does not exist the file of that name with the suffix `.layered`."""
    with reading(path):
        if path.exists():
            return path
        other = layered_name(path)
        if other.exists():
            warn(f"'{path}' does not exist; opening '{other}'")
            return other
    raise NotFoundPath(f"there is no file '{path}'", fix=f"check the path; the working directory is {os.getcwd()}")


def _read(path: Path) -> Archive:
    try:
        return read_archive(path, kind="export")
    except BadFile as error:
        if path.suffix == ".layered":
            raise
        raise BadFile(
            f"'{path}' is not an export of this library",
            got=error.got or error.problem,
            expected="a file written by learn.export, which ends in .layered",
            fix=CONVERT,
        ) from error


def _named_args(
    node: dict[str, Any], tag: str, registry: Registry[Any], archive: Archive
) -> tuple[Any, dict[str, Any]]:
    """What the name in a node stands for, and the arguments given with it."""
    kind = registry.get(node[tag])
    args = decode_tree(node["args"], archive.tensors, Scope.DATA)
    (args,) = upgraded(kind, node[tag], node.get("version", 1), args)
    return kind, args


def _build_loaders(archive: Archive) -> DataLoaders | tuple[list[object], None]:
    data = archive.manifest["data"]
    if data is None:
        return [], None
    if "$loader" in data:
        kind, args = _named_args(data, "$loader", loader_kinds, archive)
        dls: DataLoaders = kind.from_described(args)
        return dls
    if len(data["columns"]) > MAX_COLUMNS:
        raise BadFile("the file describes too many columns", expected=f"at most {MAX_COLUMNS}")
    tls = []
    for i, column in enumerate(data["columns"]):
        pipeline = decode_tree(column["pipeline"], archive.tensors, Scope.DATA) or Pipeline()
        tl = TfmdLists([], pipeline, do_setup=False, splits=[[], []], name=column["name"])
        tl.left_out = tuple(map(str, column.get("left_out", ())))
        takes_part = tl.left_out and 1 < data["n_inp"] > i  # the first step is then an ItemGetter
        tl.whole = _whole(column.get("getters"), tl.tfms.fs[1:] if takes_part else tl.tfms.fs, archive)
        tls.append(tl)
    dsets = Datasets(tls=tls, n_inp=data["n_inp"])
    slots = {slot: decode_tree(data[slot], archive.tensors, Scope.DATA) for slot in SLOTS}
    train = TfmdDL(dsets.train, bs=data["bs"], shuffle=True, drop_last=True, num_workers=0, do_setup=False, **slots)
    return DataLoaders(train, train.new(dsets.valid, shuffle=False, drop_last=False), device="cpu")


def _whole(getters: Any, steps: list[Transform], archive: Archive) -> Pipeline | None:
    """The pipeline from what its data sets started from; None if the file or this process lacks the steps to it."""
    if getters is None:
        return None
    try:
        found = exactly(list, decode_tree(getters, archive.tensors, Scope.DATA))
    except UnknownName:  # predicting does not need them
        return None
    return Pipeline([*(f if isinstance(f, Transform) else ItemTransform(f) for f in found), *steps])


def _recipe(archive: Archive) -> dict[str, Any] | None:
    """The registered builder that the file names, and its arguments; None where it describes the model otherwise."""
    node = archive.manifest["model"]
    if "$builder" not in node:
        return None
    return {"builder": node["$builder"], "args": _named_args(node, "$builder", builders, archive)[1]}


def _load_model(
    path: Path,
    node: dict[str, Any],
    recipe: dict[str, Any] | None,
    weights: dict[str, Tensor],
    model: nn.Module | None,
) -> nn.Module:
    if model is None and "refused" in node:
        raise CannotRestore(
            "the file holds the weights of this model but not how to build it",
            got=node["refused"],
            fix="load_learner(file, model=build()) with the code that built it",
        )

    def build() -> nn.Module:
        if recipe is None:
            return rebuild_module(node, {name: tuple(x.shape) for name, x in weights.items()})
        net: nn.Module = builders.get(recipe["builder"])(**recipe["args"])
        return net

    with weightless(most=1000 + 4 * len(weights)):  # the file brings the weights
        net = model if model is not None else build()
    frozen = [name for name, p in net.named_parameters() if model is None and not p.requires_grad]  # beside adapters
    check_fits(
        path,
        net.state_dict(),
        weights,
        strict=True,
        fix="install the versions of the packages that the model was exported with; or give the model itself with model=",
    )
    first = dict[int, str]()
    shared = {name: first.setdefault(id(p), name) for name, p in net.named_parameters(remove_duplicate=False)}
    net.load_state_dict(weights, assign=model is None)
    for name, of in shared.items():
        if name != of:  # each was assigned a tensor of its own
            owner, _, last = name.rpartition(".")
            setattr(net.get_submodule(owner), last, net.get_parameter(of))
    if any(x.is_meta for x in [*net.parameters(), *net.buffers()]):
        # Non-persistent buffers are neither stored nor, without memory, computed: build with memory after all, now
        # that the shapes are known to be those of the file.
        net = build()
        net.load_state_dict(weights)
    net.requires_grad_().eval()
    for name in frozen:
        net.get_parameter(name).requires_grad_(False)
    return net


def _with_import_hint(error: UnknownName, path: Path) -> UnknownName:
    name = error.problem.rpartition("named ")[2].strip("'")
    app = APPS.get(name.partition(".")[0])
    return UnknownName(
        f"'{path}' needs something that is not registered in this process: {error.problem}",
        expected=error.expected,
        fix=f"import {app} first" if app else "define or import it first, with @exportable('name') above it",
    )

"""Format 1 of exports, and how format 2 says the same. States (checkpoints, weights) are written alike in both."""

from __future__ import annotations

from typing import Any

from layered.foundation import BadFile


def upgraded_manifest(manifest: dict[str, Any], kind: str) -> dict[str, Any]:
    """The manifest of a file of format 1 in the grammar of format 2 (see `layered.files.codec`).

    It only rewrites JSON: the result is read with the checks of format 2, as if it had been written so.

    Raises:
        BadFile: It has a form that format 1 did not have.
    """
    if kind != "export":
        return manifest
    try:
        return {name: _UPGRADES.get(name, _unchanged)(part) for name, part in manifest.items()}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadFile("the manifest does not have the form of format 1", got=f"{error!s:.200}") from error


def _unchanged(part: object) -> Any:
    return part


def _model(model: object) -> Any:
    match model:
        case {"recipe": {"builder": builder, **rest}}:
            return {"$builder": builder, **rest}
        case {"tree": tree}:
            return _module(tree, "", "", {})
    return model


def _data(data: object) -> Any:
    match data:
        case {"loader": loader, "state": state, **rest}:
            return {"$loader": loader, **rest, "args": _objects(state)}
    return _objects(data)


def _objects(tree: object) -> Any:
    """Pipelines, vocabularies, functions, transforms and losses: objects were marked by a key "@"."""
    if isinstance(tree, list):
        return [_objects(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    node = {name: _objects(item) for name, item in tree.items()}
    if "@" not in node:
        return node
    match node:
        case {"@": "pipeline", "steps": steps}:
            return {"$pipeline": steps}
        case {"@": "vocab", **state}:
            return {"$value": "vocab", "args": state}
        case {"@": "function", "name": name}:
            return {"$function": name}
        case {"@": "function_transform", "function": {"$function": name}, "order": order, "split_idx": split_idx}:
            return {"$function_transform": name, "order": order, "split_idx": split_idx}
        case {"@": "transform" | "loss" as tag, "kind": name, "version": version, "args": args, "fitted": fitted}:
            return {f"${tag}": name, "version": version, "args": args, "fitted": fitted}
    raise BadFile("the file describes an object in an unknown form", got=f"{node['@']!r:.80}")


def _module(node: dict[str, Any], path: str, old: str, places: dict[str, str]) -> dict[str, Any]:
    """A module. `old` is its path as format 1 counted it: the items of a list had the path of the list."""
    if "same" in node:
        return {"$same": places[node["same"]]}
    args = {
        name: _argument(value, f"{path}.{name}".lstrip("."), f"{old}.{name}".lstrip("."), places)
        for name, value in node["args"].items()
    }
    res = {"$module": node["kind"], "version": node.get("version", 1), "args": args}
    if "children" in node:
        res["children"] = {
            name: _module(child, f"{path}.{name}".lstrip("."), f"{old}.{name}".lstrip("."), places)
            for name, child in node["children"].items()
        }
    places[old] = path
    return res


def _argument(value: object, path: str, old: str, places: dict[str, str]) -> Any:
    """An argument of a module: all that was not plain stood in a table with one key, which said what it was."""
    if isinstance(value, list):
        return [_argument(item, f"{path}.{i}", old, places) for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    match value:
        case {"norm": name}:
            return {"$value": "NormType", "args": {"name": name}}
        case {"tuple": items}:
            return {"$tuple": _argument(items, path, old, places)}
        case {"dict": table}:
            return {k: _argument(v, f"{path}.{k}", f"{old}.{k}", places) for k, v in table.items()}
        case {"module": node}:
            return _module(node, path, old, places)
        case {"class": name}:
            return {"$class": name}
        case {"function": name}:
            return {"$function": name}
    raise BadFile("the file describes an argument in an unknown form", got=f"{list(value)!r:.80}")


_UPGRADES = {"model": _model, "data": _data, "loss": _objects}

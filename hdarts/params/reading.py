"""Parameters from YAML, from a notebook's parameters cell or its variables, checked; and the identity of a run."""

import ast
import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from hdarts.errors import ParameterError
from hdarts.params.base import Parameters, respelled

P = TypeVar("P", bound=Parameters)
M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], content: Any, name: str) -> M:
    """Return the content of a file or text as a model, or raise `ParameterError`: `name: place: first fault`."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ParameterError(": ".join(filter(None, (name, place, _message(first["msg"]))))) from None


def _message(message: str) -> str:
    """Return a message of pydantic without the prefix it gives to those of our validators."""
    return message.removeprefix("Value error, ")


def check(model: type[P], values: Mapping[str, Any]) -> P:
    """Return the validated parameters, or raise `ParameterError` with one sentence about the first fault."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ParameterError(_sentence(model, error)) from None


def recorded(model: type[P], values: Mapping[str, Any]) -> P:
    """Return the parameters recorded in a run folder, also one that an earlier release wrote."""
    added = {k: v for k, v in model.added_later.items() if k in model.model_fields}
    return check(model, {**added, **respelled(values, model.renamed_values)})


def _sentence(model: type[Parameters], error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("number", "ramp"))
    kind, value = first["type"], first["input"]
    if kind == "extra_forbidden":
        known, near = list(model.model_fields), difflib.get_close_matches(where, model.model_fields, n=1)
        if len(known) > 20 and not near:
            known = [
                *difflib.get_close_matches(where, known, 3, 0.0),
                f"others: the notebook has a table of {len(known)}",
            ]
        hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}"
        return f"unknown parameter `{where}` for stage {model.stage}: {hint}"
    if kind == "missing":
        return f"parameter `{where}` is missing for stage {model.stage}"
    message = _message(first["msg"])
    if not where:
        return f"{model.stage}: {message}"
    hint = _how_to_write(where, value, kind) if isinstance(value, str) else ""
    return f"parameter `{where}` = {_shown(value)}: {message[0].lower()}{message[1:]}{hint}"


def _how_to_write(name: str, text: str, kind: str) -> str:
    """Return how to write a value that arrived as text, such as a list by papermill's option -p."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    if kind.endswith("_type") and not isinstance(value, str):
        content = f"[{text}]" if kind == "list_type" and not isinstance(value, list) else text
        return f"; it is text here, and papermill reads -y '{name}: {content}' as YAML"
    return "; write numbers in YAML with a point, such as 6.0e-4" if kind == "float_type" else ""


def _shown(value: Any) -> str:
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an object whose repr fails is named by its type
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:77]}..."


def collect(model: type[P], namespace: Mapping[str, Any], preset: Mapping[str, Any] | None = None) -> P:
    """Return the parameters among the variables of a notebook's `namespace` (its `globals()`).

    What is not there has its value in `preset`, else its default. Call it in the first cell after the parameters cell:
    a plain value under a name that is no parameter (except `preset`) is refused. When that cell is run again, the
    variables of later cells are ignored.
    """
    plain = (bool, int, float, complex, str, bytes, list, tuple, set, dict, type(None))
    known = {n: v for n, v in namespace.items() if n in model.model_fields}
    others = {"In", "Out", "preset"}
    literals = {n: v for n, v in namespace.items() if isinstance(v, plain) and n[0] != "_" and n not in others}
    again = any(isinstance(value, model) for value in namespace.values())
    return check(model, {**(preset or {}), **({} if again else literals), **known})


def identity(params: Parameters) -> str:
    """Return 8 hexadecimal digits that name what a run computes: SHA-256 of its identifying parameters."""
    text = json.dumps({"stage": params.stage, **params.identifying(params.model_dump())}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


class _Loader(yaml.SafeLoader):
    """Reads YAML as `yaml.safe_load`, but refuses a mapping that has a name twice: only the last value would count."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names = [name.value for name, _ in node.value if name.value != "<<"]
        if twice := [name for name in names if names.count(name) > 1]:
            raise yaml.MarkedYAMLError(f"{twice[0]} is given twice", node.start_mark)
        return node


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, or raise `ParameterError` naming the file and the fault."""
    try:
        content = _Loader(Path(path).read_text(encoding="utf-8")).get_single_data()
    except FileNotFoundError:
        raise ParameterError(f"{path}: no such file") from None
    except Exception as error:  # not only YAMLError: ValueError, KeyError, RecursionError and others
        raise ParameterError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ParameterError(f"{path}: is not a mapping of names to values")
    return content


def notebook_defaults(path: str | Path) -> dict[str, Any]:
    """Return the defaults in a notebook's parameters cell: assignments of literals to names; no code is run.

    `preset` is not among them: it is no parameter, but names a file of them.
    """
    try:
        cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
        sources = ["".join(c["source"]) for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
    except FileNotFoundError:
        raise ParameterError(f"{path}: no such notebook") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ParameterError(f"{path}: is not a Jupyter notebook") from None
    if sources:
        return {name: value for name, value in _literals(path, sources[0]).items() if name != "preset"}
    raise ParameterError(f"{path}: has no cell tagged `parameters`")


def _literals(path: str | Path, source: str) -> dict[str, Any]:
    values, line = {}, 1
    try:
        for statement in ast.parse(source).body:
            line = statement.lineno
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)]):
                    values[name] = ast.literal_eval(statement.value)
                case _:
                    raise ValueError
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", line)
        raise ParameterError(f"{path}: line {line} of the parameters cell is not `name = literal`") from None
    return values

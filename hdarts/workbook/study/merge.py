"""Merge the entries of a study: the files it includes, its own entries, and a scale."""

from pathlib import Path
from typing import Any

from hdarts.errors import ParameterError
from hdarts.params import read_yaml

Entries = dict[str, Any]
FULL = "full"  # the scale of a study as written


def merged(path: Path, scale: str = FULL) -> Entries:
    """Return the entries of a study file over those of the files it includes, at a `scale`.

    A scale overrides the stages of the study entry by entry and skips stages and arms that the study lacks, so one
    scale serves many studies. A stage or arm that it sets to null is left out. It adds `-<scale>` to the study's name,
    and its `about` text as the entry `scale`. Raises `ParameterError`.
    """
    content = _with_included(path, ())
    scales = content.pop("scales", {})
    if not isinstance(scales, dict) or not all(isinstance(given, dict) for given in scales.values()):
        raise ParameterError(f"{path}: `scales` must map names to the entries about and stages")
    for name, key in ((name, key) for name, given in scales.items() for key in given):
        if key not in ("about", "stages"):
            raise ParameterError(f"{path}: `scales.{name}.{key}`: unknown entry; entries are about, stages")
    if scale == FULL:
        return content
    if scale not in scales:
        raise ParameterError(f"{path}: scale {scale!r} is not known; known are {', '.join([FULL, *map(str, scales)])}")
    stages, over = content.get("stages"), scales[scale].get("stages", {})
    if not isinstance(stages, dict) or not isinstance(over, dict):
        raise ParameterError(f"{path}: `stages` must map names to stages")
    there = {name: _of_known_arms(stages[name], given) for name, given in over.items() if name in stages}
    named = {"study": f"{content.get('study')}-{scale}", "scale": str(scales[scale].get("about", scale))}
    return {**content, **named, "stages": _without_null(_deep(stages, there))}


def _without_null(stages: Entries) -> Entries:
    """Return the stages without those, and without the arms, that a scale sets to null."""
    kept = {name: stage for name, stage in stages.items() if stage is not None}
    for name, stage in kept.items():
        if isinstance(stage, dict) and isinstance(stage.get("arms"), dict):
            kept[name] = stage | {"arms": {arm: given for arm, given in stage["arms"].items() if given is not None}}
    return kept


def _of_known_arms(stage: Any, over: Any) -> Any:
    if not isinstance(stage, dict) or not isinstance(over, dict) or not isinstance(over.get("arms"), dict):
        return over
    there = stage.get("arms") if isinstance(stage.get("arms"), dict) else {}
    return over | {"arms": {arm: given for arm, given in over["arms"].items() if arm in there}}


def _with_included(path: Path, above: tuple[Path, ...]) -> Entries:
    if path.resolve() in above:
        raise ParameterError(f"{path}: includes itself")
    content = read_yaml(path)
    files = content.pop("include", [])
    if not isinstance(files, list) or not all(isinstance(name, str) and "\0" not in name for name in files):
        raise ParameterError(f"{path}: `include` must be a list of files")
    whole: Entries = {}
    for name in files:
        whole = _deep(whole, _with_included(path.parent / name, (*above, path.resolve())))
    return _deep(whole, content)


def _deep(below: Entries, over: Entries) -> Entries:
    """Merge mappings recursively, entries of `over` first; other values of `over` replace those below."""
    both = dict(below)
    for key, value in over.items():
        old = below.get(key)
        both[key] = _deep(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both

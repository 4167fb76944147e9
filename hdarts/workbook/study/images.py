"""What the images of runs are, and whether those of finished runs are still those that they read."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hdarts.errors import ParameterError
from hdarts.params import EvaluateParams, SearchParams
from hdarts.runs.provenance import last_images
from hdarts.workbook.study import PlannedRun

if TYPE_CHECKING:
    from hdarts.data import DatasetInfo

Params = SearchParams | EvaluateParams


def info_of(params: Params, known: dict[str, "DatasetInfo"], download: bool = False) -> "DatasetInfo":
    """Return what a run would read, from the headers of its images; `known` has it by the parameters that decide."""
    from hdarts.data import dataset_info  # imports torch

    source = params.source()
    if isinstance(params, EvaluateParams):
        source |= {"validation_fraction": 0.0, "test": True}
    key = json.dumps([params.data, {**source, "workers": 0, "split_seed": 0}])
    if key not in known:
        known[key] = dataset_info(params.data, **source, download=download, every=True)
    return known[key]


def refuse_changed_images(finished: Iterable[PlannedRun]) -> None:
    """Raise `ParameterError` for the first finished run whose images are no longer those that it read.

    While names, sizes and times of their files are the same, so are the images; otherwise they are read. Not checked:
    images that are not on this machine, and runs of 0.1.0, which have not recorded their files.
    """
    signatures: dict[str, str] = {}
    digests: dict[str, str] = {}
    for run in finished:
        data = last_images(run.folder)
        origin = dict(data.get("origin", {}))
        if not (files := origin.pop("files", "")):
            continue
        from hdarts.data import load  # imports torch
        from hdarts.data.sources import locate, signature

        place, key = f"{origin['name_or_path']} {origin['folder']}", json.dumps(origin)
        try:
            if place not in signatures:
                signatures[place] = signature(locate(origin["name_or_path"], origin["folder"]))
        except ParameterError:
            continue
        if signatures[place] == files:
            continue
        if key not in digests:
            print(f"{origin['name_or_path']}: files changed since {run.name}; reads the images to compare them")
            try:
                digests[key] = load(**origin).digest
            except ParameterError as error:
                digests[key] = f"none ({error})"
        then, now = data["digest"], digests[key]
        if now != then:
            raise ParameterError(
                f"run {run.name} is done, but its images changed: SHA-256 {then} when it began, {now} now; "
                "restore them, or move the folder of the run away to compute it again"
            )

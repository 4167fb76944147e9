"""The study file: its entries and their checks."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from hdarts.errors import ParameterError

Plain = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=60)]
PlainPath = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]*(/[a-z0-9][a-z0-9_.-]*)*$")]


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Each(_Strict):
    """One run of this stage for each run of another stage (`by: run`), or for each group of its runs.

    `by` names the labels that a group shares; `by: []` makes one group of all runs. `as` is the parameter that receives
    the name of the run, or the list of names of the group. Only an `optional` entry may leave no run.
    """

    stage: Plain
    by: Annotated[list[str], BeforeValidator(_listed)] = ["run"]
    where: dict[str, Annotated[list[Any], BeforeValidator(_listed)]] = {}
    but: dict[str, Annotated[list[Any], BeforeValidator(_listed)]] = Field(default={}, alias="except")
    parameter: str = Field(alias="as")
    parameters: dict[str, Any] = {}  # of these runs, on top of those of the stage
    optional: bool = False


class Arm(_Strict):
    """A named setting: a preset (a file below `params/`), parameters on top, and a matrix on top of its stage's."""

    preset: PlainPath | None = None
    parameters: dict[str, Any] = {}
    matrix: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}


class Stage(Arm):
    """One notebook and all its runs."""

    notebook: Plain
    arms: Annotated[dict[Plain, Arm], Field(min_length=1)] | None = None
    each: Annotated[list[Each], BeforeValidator(_listed)] = []
    after: Literal["everything"] | list[Plain] = []
    reads: Plain | None = None  # another study, whose runs the analysis in this stage shows
    resources: dict[Plain, Annotated[float, Field(gt=0)]] = {}  # required of a worker: {gpus: 1, memory: 16}


class Comparison(_Strict):
    """Two arms whose cells a study compares first, named before any run.

    `known`: the literature says that the first arm finds better cells (a positive control).
    """

    arms: tuple[Plain, Plain]
    known: bool = False

    def __str__(self) -> str:
        return " against ".join(self.arms) + (" (known)" if self.known else "")


class Study(_Strict):
    """A study file."""

    study: Plain
    title: str = ""
    about: str = ""
    scale: str = ""  # the `about` text of its scale; "" at full scale
    timeout: Annotated[float, Field(gt=0, le=1e6)] | None = None  # minutes after which a run counts as hanging
    start_timeout: Annotated[int, Field(gt=0, le=1_000_000)] = 60  # seconds that a kernel may take to start
    cluster: dict[str, Any] | None = None  # hdarts.workbook.cluster.Cluster, for `--engine dask`
    thesis: bool = False  # the page carries the claims of the thesis, and what is wrong in it
    primary: list[Comparison] = []  # tested by true accuracy, paired by search seed; fixed once a run is done
    stages: Annotated[dict[Plain, Stage], Field(min_length=1)]

    @property
    def primary_arms(self) -> set[str]:
        return {arm for comparison in self.primary for arm in comparison.arms}


def check_study(path: Path, entries: Mapping[str, Any]) -> Study:
    """Return the study of a file's merged entries, or raise `ParameterError` naming file, place and fault."""
    try:
        study = Study.model_validate(entries)
    except ValidationError as error:
        # a misspelt entry first: a missing entry follows from it
        first = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        where = ".".join(str(part) for part in first["loc"] if "[" not in str(part))
        value = "" if isinstance(first["input"], dict) else f" = {str(first['input'])[:80]!r}"
        messages = {
            "extra_forbidden": f"unknown entry{_nearest(where)}",
            "missing": "this entry is missing",
            "string_pattern_mismatch": "names are lower-case letters, digits, `_`, `.` and `-`",
        }
        message = messages.get(first["type"], first["msg"][0].lower() + first["msg"][1:])
        raise ParameterError(f"{path}: `{where}`{value}: {message}") from None
    arms = dict.fromkeys(arm for stage in study.stages.values() for arm in stage.arms or {})
    if unknown := sorted(study.primary_arms - arms.keys()):
        raise ParameterError(f"{path}: `primary`: no stage has an arm {unknown[0]!r}; known are {', '.join(arms)}")
    return study


def _nearest(where: str) -> str:
    known = ["include", "scales", *Study.model_fields, *Stage.model_fields, "by", "where", "except", "as"]
    near = difflib.get_close_matches(where.split(".")[-1], known, n=1)
    return f"; did you mean `{near[0]}`?" if near else f"; entries are {', '.join(known)}"

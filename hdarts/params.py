"""Parameters: one flat pydantic model a notebook, its checks, and the identity of a run.

The models hold names, types and limits, but no defaults: a notebook's parameters cell is their one place. An unknown,
missing or impossible value raises `ParameterError` with one sentence before any work is done.
"""

import ast
import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator


class ParameterError(ValueError):
    """A parameter, file or name that the user has to mend; its message is one sentence."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds characters that cannot be printed")
    return text


Text = Annotated[str, AfterValidator(_printable)]
Integer = Annotated[int, Field(lt=2**63)]  # what a column of a table holds
Count = Annotated[Integer, Field(ge=1)]
CountOrZero = Annotated[Integer, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Parameters(BaseModel):
    """Base of all parameter models: flat, typed strictly, unknown names refused, immutable.

    `run` is the run folder below `runs/` ("" lets the parameters choose it). `aside` names the fields that do not
    change what is computed and therefore are no part of a run's identity.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    stage: ClassVar[str]
    aside: ClassVar[frozenset[str]] = frozenset(
        {"run", "device", "threads", "checkpoint_epochs", "checkpoint_minutes", "keep_epochs", "keep_checkpoint"}
    )
    run: Text

    def slug(self) -> str:
        """Return a short readable name of the run; the hash of `identity` makes it unique."""
        return self.stage


class Machine(BaseModel):
    """Where and how a run computes."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$")]
    threads: CountOrZero  # CPU threads; 0 leaves PyTorch's own choice


class Images(BaseModel):
    """Which images, which part of them, and their augmentation (hdarts.data)."""

    data: Annotated[Text, Field(min_length=1)]
    data_folder: Text
    limit: CountOrZero
    image_size: CountOrZero
    crop_padding: CountOrZero
    flip: bool
    cutout: CountOrZero


class Checkpoints(BaseModel):
    """When a loop saves, which epochs stay, and whether a finished run keeps its large checkpoint."""

    checkpoint_epochs: Count
    checkpoint_minutes: Positive
    keep_epochs: list[CountOrZero]
    keep_checkpoint: bool


class SGD(BaseModel):
    """SGD with momentum, coupled weight decay, gradient-norm clip and a cosine schedule by epoch."""

    epochs: Count
    batch_size: Annotated[Integer, Field(ge=2)]
    learning_rate: Positive
    learning_rate_min: NotNegative
    momentum: Fraction
    weight_decay: NotNegative
    clip: Positive


class SearchParams(Parameters, Machine, Images, Checkpoints, SGD):
    """Notebook 03: one architecture search (report sections 4.3 to 4.8)."""

    stage: ClassVar[str] = "search"
    search_seed: CountOrZero
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    split_seed: CountOrZero
    space: Literal["darts"]
    channels: Count
    layers: Annotated[Integer, Field(ge=3)]
    method: Literal[
        "random", "darts-first", "darts-second", "unrolled", "neumann", "conjugate-gradient", "hypernetwork"
    ]
    part: Literal["total", "response", "direct"]
    alpha_learning_rate: Positive
    alpha_beta1: Fraction
    alpha_beta2: Fraction
    alpha_weight_decay: NotNegative
    alpha_scale: NotNegative
    epsilon: Positive
    steps: Count
    truncate: CountOrZero
    terms: Count
    iterations: Count
    damping: NotNegative
    hypernetwork: Literal["linear", "low-rank", "mlp", "chunked"]
    activation: Literal["identity", "tanh", "sigmoid", "relu"]
    hidden: Literal["per_convolution", "shared"]
    hidden_size: CountOrZero
    rank: Count
    embedding: Count
    rest: Literal["own", "generated"]
    centred: bool
    noise: NotNegative
    antithetic: bool
    initialisation: Literal["default", "zero-response"]
    log_every: Count

    def slug(self) -> str:
        name = self.hypernetwork if self.method == "hypernetwork" else self.method
        return f"{name}-s{self.search_seed}"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.centred and self.noise == 0:
            raise ValueError("centred: true learns nothing without noise; set noise above 0 (0.05 to 0.1 is practical)")
        if self.antithetic and self.noise == 0:
            raise ValueError("antithetic: true needs noise above 0")
        if self.rest == "generated" and self.hypernetwork == "chunked":
            raise ValueError("rest: generated needs hypernetwork linear, low-rank or mlp; chunked makes kernels only")
        if self.truncate > self.steps:
            raise ValueError(f"truncate: {self.truncate} is more than steps: {self.steps}")
        return self


class EvaluateParams(Parameters, Machine, Images, Checkpoints, SGD):
    """Notebook 06: one network of a genotype, trained from scratch and tested (report section 4.8.2)."""

    stage: ClassVar[str] = "evaluate"
    genotype: Annotated[Text, Field(min_length=1)]
    evaluation_seed: CountOrZero
    test_limit: CountOrZero
    channels: Count
    layers: Annotated[Integer, Field(ge=3)]
    auxiliary: NotNegative
    drop_path: Fraction

    def slug(self) -> str:
        return f"{Path(self.genotype).stem}-e{self.evaluation_seed}"


class SelectParams(Parameters):
    """Notebook 05: the best of several searches (report section 4.7)."""

    stage: ClassVar[str] = "select"
    searches: list[Text]
    require_skip: bool
    allow_no_skip: bool


class ToyBilevelParams(Parameters):
    """Notebook 01: hypergradients of problems whose answer is known."""

    stage: ClassVar[str] = "toy_bilevel"
    seed: CountOrZero
    most_steps: Annotated[Integer, Field(ge=2)]


class ToyHypernetworkParams(Parameters):
    """Notebook 02: what a hypernetwork learns on the same problems."""

    stage: ClassVar[str] = "toy_hypernetwork"
    seed: CountOrZero
    sigmas: list[Positive]
    steps: Count


class HypergradientParams(Parameters, Machine):
    """Notebook 04: the hypergradients of a real supernet, method against method."""

    stage: ClassVar[str] = "hypergradients"
    search: Text
    epochs: list[Count]
    seed: CountOrZero
    batch_size: Annotated[Integer, Field(ge=2)]
    step_size: Positive
    reference_steps: Annotated[Integer, Field(ge=2)]
    terms: Count


class AnalysisParams(Parameters):
    """Notebook 07: reads run folders, computes nothing anew, draws all figures."""

    stage: ClassVar[str] = "analysis"
    study: Text


MODELS: dict[str, type[Parameters]] = {
    "01_toy_bilevel": ToyBilevelParams,
    "02_toy_hypernetwork": ToyHypernetworkParams,
    "03_search": SearchParams,
    "04_hypergradients": HypergradientParams,
    "05_select": SelectParams,
    "06_evaluate": EvaluateParams,
    "07_analysis": AnalysisParams,
}

P = TypeVar("P", bound=Parameters)


def check(model: type[P], values: Mapping[str, Any]) -> P:
    """Return the validated parameters, or raise `ParameterError` with one sentence about the first fault."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ParameterError(_sentence(model, error)) from None


def _sentence(model: type[Parameters], error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    kind, value = first["type"], first["input"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(where, model.model_fields, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(model.model_fields)}"
        return f"unknown parameter `{where}` for stage {model.stage}: {hint}"
    if kind == "missing":
        return f"parameter `{where}` is missing for stage {model.stage}"
    message = first["msg"].removeprefix("Value error, ")
    if not where:
        return f"{model.stage}: {message}"
    hint = "; write numbers in YAML with a point, such as 6.0e-4" if (kind, type(value)) == ("float_type", str) else ""
    return f"parameter `{where}` = {_shown(value)}: {message[0].lower()}{message[1:]}{hint}"


def _shown(value: Any) -> str:
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an object that cannot be printed is no reason to fail in another way
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:77]}..."


def collect(model: type[P], namespace: Mapping[str, Any]) -> P:
    """Return the parameters that stand as plain variables in a notebook's `namespace` (its `globals()`).

    Call it in the first cell after the parameters cell: whatever plain value stands there under another name was
    meant as a parameter and is refused. When the cell is run again, later cells have left variables of their own:
    then only the model's names are looked at.
    """
    plain = (bool, int, float, complex, str, bytes, list, tuple, set, dict, type(None))
    known = {n: v for n, v in namespace.items() if n in model.model_fields}
    literals = {n: v for n, v in namespace.items() if isinstance(v, plain) and n[0] != "_" and n not in {"In", "Out"}}
    again = any(isinstance(value, model) for value in namespace.values())
    return check(model, known if again else {**literals, **known})


def identity(params: Parameters) -> str:
    """Return 8 hexadecimal digits that name what a run computes: SHA-256 of its parameters, `aside` left out."""
    text = json.dumps({"stage": params.stage, **params.model_dump(exclude=set(params.aside))}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, or raise `ParameterError` naming the file and the fault."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParameterError(f"{path}: no such file") from None
    except Exception as error:  # beside YAMLError, PyYAML lets ValueError, KeyError, RecursionError and others out
        raise ParameterError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ParameterError(f"{path}: holds no mapping of names to values")
    return content


def notebook_defaults(path: str | Path) -> dict[str, Any]:
    """Return the defaults in a notebook's parameters cell: assignments of literals to names, nothing is run."""
    try:
        cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
        sources = ["".join(c["source"]) for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
    except FileNotFoundError:
        raise ParameterError(f"{path}: no such notebook") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ParameterError(f"{path}: is not a Jupyter notebook") from None
    if sources:
        return _literals(path, sources[0])
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

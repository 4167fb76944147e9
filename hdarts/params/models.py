"""One flat pydantic model per notebook: names, types and limits; the defaults are in its parameters cell."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hdarts.params.parts import SAMPLED, SearchParts, check_parts_with_the_rest
from hdarts.params.types import (
    Count,
    CountOrZero,
    Fraction,
    Integer,
    NotNegative,
    Positive,
    Precision,
    Text,
)


class Parameters(BaseModel):
    """Base of all parameter models: flat, strictly typed, immutable; unknown names are refused.

    `run` is the run folder below `runs/` ("": derived from the parameters). Three tables keep the names of runs stable:
    `not_identifying` are the fields that do not change what is computed; `added_later` are fields that an earlier
    release did not have, with the value that reproduces it; `renamed_values` maps old spellings to new.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    stage: ClassVar[str]
    added_later: ClassVar[Mapping[str, Any]] = {
        **{"sync_batch_norm": False, "tensorboard": False, "stream": False, "workers": 2},
        **{"drop_last": True, "order": "alpha-first", "nesterov": False, "schedule": "epoch"},
    }
    renamed_values: ClassVar[Mapping[str, Mapping[str, str]]] = {"rest": {"own": "learned"}}
    not_identifying: ClassVar[frozenset[str]] = frozenset(
        {
            *("run", "device", "threads", "deterministic", "tensorboard", "stream", "workers"),
            *("checkpoint_epochs", "checkpoint_minutes", "keep_epochs", "keep_checkpoint"),
        }
    )
    run: Text

    @classmethod
    def identifying(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that determine what a run computes, as the first release spelled them."""
        first = {name: {new: old for old, new in renamed.items()} for name, renamed in cls.renamed_values.items()}
        kept = {k: v for k, v in respelled(values, first).items() if k not in cls.not_identifying}
        defaults = {k: field.default for k, field in cls.model_fields.items() if not field.is_required()}
        later = defaults | dict(cls.added_later)
        return {k: v for k, v in kept.items() if not (k in later and v == later[k])}

    def slug(self) -> str:
        """Return a short readable name of the run; the hash of `identity` makes it unique."""
        return self.stage


def respelled(values: Mapping[str, Any], renamed: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return parameters with the words of a table of `renamed` values replaced."""
    return {k: renamed[k].get(v, v) if k in renamed and isinstance(v, str) else v for k, v in values.items()}


class Machine(BaseModel):
    """Where and how a run computes."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$")]
    threads: CountOrZero  # CPU threads; 0: PyTorch's default
    deterministic: bool  # a fixed order of sums on a GPU; the CPU has it anyway


class Images(BaseModel):
    """Which images, which part of them, and their augmentation (hdarts.data)."""

    data: Annotated[Text, Field(min_length=1)]
    data_folder: Text
    limit: CountOrZero
    skip_damaged: bool
    image_size: CountOrZero
    stream: bool  # read the images of a folder for each batch, not once
    workers: Annotated[int, Field(ge=0, le=1024)]  # processes that read them; 0: the main one
    crop_padding: CountOrZero
    flip: bool
    cutout: CountOrZero


class Checkpoints(BaseModel):
    """When a loop saves, which epochs it keeps, whether a finished run keeps its last checkpoint, and event files."""

    checkpoint_epochs: Count
    checkpoint_minutes: Positive
    keep_epochs: list[CountOrZero]
    keep_checkpoint: bool
    tensorboard: bool


def _no_auto(value: Any) -> Any:
    if value == "auto":
        raise ValueError("a batch size changes results, so none is chosen silently; `hdarts batch-size` proposes one")
    return value


class SGD(BaseModel):
    """SGD with momentum, coupled weight decay, gradient-norm clip and a cosine schedule by epoch."""

    epochs: Count
    batch_size: Annotated[Integer, Field(ge=2), BeforeValidator(_no_auto)]
    learning_rate: Positive
    learning_rate_min: NotNegative
    momentum: Fraction
    weight_decay: NotNegative
    clip: Positive
    precision: Precision  # of the network's activations; weights and their gradients are float32


STOPS = ("stop_when_skips", "stop_when_stable", "stop_when_eigenvalue_grows")


class SearchParams(SearchParts, Parameters, Machine, Images, Checkpoints, SGD):
    """Notebook 03: one architecture search (thesis sections 4.3 to 4.8)."""

    stage: ClassVar[str] = "search"
    search_seed: CountOrZero
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    split_seed: CountOrZero
    drop_last: bool  # leave out last short batches, and end an epoch with the shorter level
    space: Literal["darts", "nasbench201", "darts-no-none", "nasbench201-no-none", "s1", "s2", "s3", "s4"]
    channels: Count
    layers: Count  # cells of a DARTS network; of each of the three stages of NAS-Bench-201
    method: Literal[
        "random",
        "shared-weights",
        "darts-first",
        "darts-second",
        "unrolled",
        "neumann",
        "conjugate-gradient",
        "hypernetwork",
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
    candidates: CountOrZero
    hypernetwork: Literal["linear", "low-rank", "mlp", "chunked"]
    activation: Literal["identity", "tanh", "sigmoid", "relu"]
    hidden: Literal["per_convolution", "shared"]
    hidden_size: CountOrZero
    rank: Count
    embedding: Count
    rest: Literal["learned", "generated"]
    hypernetwork_input: Literal["alpha", "softmax"]
    centred: bool
    noise: NotNegative
    antithetic: bool
    initialisation: Literal["default", "zero-response"]
    global_epochs: CountOrZero
    global_scale: Positive
    order: Literal["alpha-first", "weights-first", "together"]  # of the two steps on a pair of batches
    nesterov: bool  # momentum of the weights
    schedule: Literal["epoch", "step"]  # how often the learning rate of the weights changes
    schedule_epochs: CountOrZero
    stop_when_skips: CountOrZero
    discretise_epochs: CountOrZero
    eigenvalue_epochs: CountOrZero
    log_every: Count
    sync_batch_norm: bool = False  # over all processes of torchrun

    @property
    def frozen_epochs(self) -> int:
        """Number of initial epochs with frozen alpha, in which the weights learn at random alphas or cells."""
        return self.epochs if self.method == "shared-weights" else self.global_epochs

    @property
    def decisions(self) -> int:
        """Number of decisions of selection perturbation: edges and, in the DARTS space, nodes with more than two."""
        return 6 if self.space.startswith("nasbench201") else 14 + 3

    @property
    def all_epochs(self) -> int:
        """Number of epochs, with those in which selection perturbation tunes the supernet (81 and 25 as published)."""
        tuning = self.tuning_epochs * (self.decisions - 1) + (not self.space.startswith("nasbench201"))
        return self.epochs + tuning * (self.selection == "perturbation")

    def slug(self) -> str:
        name = self.hypernetwork if self.method == "hypernetwork" else self.method
        return f"{name}-s{self.search_seed}"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self._check_parts()
        self._check_stages()
        check_parts_with_the_rest(self)
        if self.centred and self.noise == 0:
            raise ValueError("centred: true learns nothing without noise; set noise above 0 (0.05 to 0.1 is practical)")
        if self.antithetic and self.noise == 0:
            raise ValueError("antithetic: true needs noise above 0")
        if self.rest == "generated" and self.hypernetwork == "chunked":
            raise ValueError("rest: generated needs hypernetwork linear, low-rank or mlp; chunked makes only kernels")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: true needs momentum above 0")
        if self.global_epochs and (self.method != "hypernetwork" or self.centred):
            raise ValueError("global_epochs: needs method hypernetwork, not centred; 0 trains along alpha's path")
        if self.global_epochs >= self.epochs and not (self.candidates and self.global_epochs == self.epochs):
            raise ValueError(f"global_epochs: {self.global_epochs} leaves no epoch for alpha: epochs is {self.epochs}")
        if self.method == "shared-weights" and not self.candidates:
            raise ValueError("candidates: 0 leaves method shared-weights no cell to choose")
        if self.candidates and self.frozen_epochs < self.epochs:
            raise ValueError("candidates: needs method shared-weights, or hypernetwork with global_epochs = epochs")
        if self.candidates and self.method == "hypernetwork" and self.hypernetwork_input != "softmax":
            raise ValueError("candidates: a cell is one-hot, so its hypernetwork needs hypernetwork_input: softmax")
        if self.centred and self.hypernetwork_input != "alpha":
            raise ValueError("centred: the input is the noise of alpha, so hypernetwork_input must be alpha")
        if 0 < self.schedule_epochs < self.epochs:
            raise ValueError(f"schedule_epochs: {self.schedule_epochs} ends before epochs: {self.epochs}; 0 is equal")
        if self.schedule_epochs and self.frozen_epochs:
            raise ValueError("schedule_epochs: is not for a search with frozen alpha; the frozen epochs are its cosine")
        if "nasbench201" not in self.space and self.layers < 3:
            needs = f"the 3 cells that a network of space {self.space} needs"
            raise ValueError(f"`layers` = {self.layers} is less than {needs}")
        if self.space == "s4" and (self.parametrisation in SAMPLED or self.antithetic):
            other = "antithetic: true" if self.antithetic else f"parametrisation: {self.parametrisation}"
            raise ValueError(f"space: s4 draws the values of its operation noise, so it cannot have {other}")
        if self.space == "s4" and self.max_skips is not None:
            raise ValueError("max_skips: space s4 has no skip connections")
        if self.truncate > self.steps:
            raise ValueError(f"truncate: {self.truncate} is more than steps: {self.steps}")
        return self

    def _check_stages(self) -> None:
        if self.stages and (total := sum(stage.epochs for stage in self.stages)) != self.epochs:
            raise ValueError(f"stages: they have {total} epochs, but epochs is {self.epochs}")
        stops = [name for name in STOPS if getattr(self, name)]
        if stops and (self.stages or self.selection == "perturbation"):
            raise ValueError(f"{stops[0]}: is not for a search with stages or selection: perturbation")
        if self.fresh_batches and self.method != "neumann":
            raise ValueError("fresh_batches: needs method neumann")
        if self.candidates and self.selection == "perturbation":
            raise ValueError("selection: perturbation is not for candidates, which are ranked instead")
        if self.stop_when_eigenvalue_grows and not self.eigenvalue_epochs:
            raise ValueError("stop_when_eigenvalue_grows: needs eigenvalue_epochs above 0")
        if self.stages and self.frozen_epochs:
            raise ValueError("stages: are not for a search with global_epochs or candidates")
        kept = self.stages or self.method == "shared-weights" or self.selection == "perturbation"
        if self.warmup_epochs >= self.epochs and not kept:
            raise ValueError(f"warmup_epochs: {self.warmup_epochs} leaves no epoch for alpha: epochs is {self.epochs}")
        for stage in self.stages:
            if stage.restart is False and (stage.layers or self.layers) != (self.stages[0].layers or self.layers):
                raise ValueError("stages: a stage with other layers needs restart: true")
        if self.stages and (self.stages[0].operations or not self.stages[0].restart):
            raise ValueError("stages: before the first one there is nothing to prune or to keep")
        if self.method == "hypernetwork" and any(stage.skip_dropout for stage in self.stages) and self.antithetic:
            raise ValueError("skip_dropout: the two passes of antithetic would have different masks")


class EvaluateParams(Parameters, Machine, Images, Checkpoints, SGD):
    """Notebook 06: one network of a genotype, trained from scratch and tested (thesis section 4.8.2)."""

    stage: ClassVar[str] = "evaluate"
    genotype: Annotated[Text, Field(min_length=1)]
    evaluation_seed: CountOrZero
    test_limit: CountOrZero
    channels: Count
    layers: Count  # as in a search, in the genotype's space
    auxiliary: NotNegative
    drop_path: Fraction
    sync_batch_norm: bool  # over all processes of torchrun

    def slug(self) -> str:
        return f"{Path(self.genotype).stem}-e{self.evaluation_seed}"


class SelectParams(Parameters):
    """Notebook 05: the best of several searches (thesis section 4.7)."""

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
    """Notebook 04: the hypergradients of a real supernet by all methods."""

    stage: ClassVar[str] = "hypergradients"
    search: Text
    epochs: list[Count]
    seed: CountOrZero
    batch_size: Annotated[Integer, Field(ge=2)]
    step_size: Positive
    reference_steps: Annotated[Integer, Field(ge=2)]
    terms: Count


class AnalysisParams(Parameters):
    """Notebook 07: all figures of a study, drawn from its run folders."""

    stage: ClassVar[str] = "analysis"
    study: Text


class RelativesParams(Parameters):
    """Notebook 08: what each replaceable part of a search does."""

    stage: ClassVar[str] = "relatives"
    seed: CountOrZero
    epochs: Annotated[Integer, Field(ge=2)]
    preset_epochs: Count
    stage_epochs: Count
    beta: Positive
    draws: Count


MODELS: dict[str, type[Parameters]] = {
    "01_toy_bilevel": ToyBilevelParams,
    "02_toy_hypernetwork": ToyHypernetworkParams,
    "03_search": SearchParams,
    "04_hypergradients": HypergradientParams,
    "05_select": SelectParams,
    "06_evaluate": EvaluateParams,
    "07_analysis": AnalysisParams,
    "08_relatives": RelativesParams,
}

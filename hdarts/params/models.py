"""One flat pydantic model per notebook: names, types, limits; fields without default are in its parameters cell."""

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from hdarts.params.base import SGD, Checkpoints, Images, Machine, Network, Parameters
from hdarts.params.search import SearchParams
from hdarts.params.types import Count, CountOrZero, Fraction, Integer, NotNegative, Positive, Text


def _one_line(value: Any) -> Any:
    """Join the lines of a genotype that was pasted, without their comments."""
    if not isinstance(value, str) or "\n" not in value:
        return value
    return " ".join(line.partition("#")[0].strip() for line in value.splitlines()).strip()


class EvaluateParams(Parameters, Machine, Images, Network, Checkpoints, SGD):
    """Notebook 06: one network of a genotype, trained from scratch and tested (thesis section 4.8.2)."""

    stage: ClassVar[str] = "evaluate"
    # the cells: a file, the text Genotype(...), or the run of a search
    genotype: Annotated[Text, Field(min_length=1), BeforeValidator(_one_line)]
    evaluation_seed: CountOrZero  # seed of initial weights, batches and drop path
    test_limit: CountOrZero = 0  # class-balanced subset of the test images; 0: all
    auxiliary: NotNegative  # weight a of the auxiliary head's loss; 0: no head
    drop_path: Fraction  # probability of leaving out an edge, at the end of its linear growth
    # in the loss; balanced: each class counts the same, however many images it has
    class_weights: Literal["none", "balanced"] = "none"
    sync_batch_norm: bool = False  # with torchrun: normalise by the whole batch, not each process's part

    def slug(self) -> str:
        """Return the name of the file, run or pasted genotype, and the seed."""
        if pasted := re.search(r"(?:(\w+)\s*=\s*)?\bGenotype\s*\(|^\s*[|{]", self.genotype):
            return f"{pasted[1] or 'cell'}-e{self.evaluation_seed}"
        return f"{Path(self.genotype).stem}-e{self.evaluation_seed}"


class SelectParams(Parameters):
    """Notebook 05: the best of several searches (thesis section 4.7)."""

    stage: ClassVar[str] = "select"
    searches: list[Text]  # names of finished searches in runs/; []: four short ones run first
    require_skip: bool  # disregard searches whose normal cell has no skip connection
    allow_no_skip: bool  # if none has one, choose the best of all instead of stopping
    channels: CountOrZero = 0  # of the network to be trained; 0: as published (36; NAS-Bench-201: 16)
    layers: CountOrZero = 0  # its cells (NAS-Bench-201: per stage); 0: as published (20; NAS-Bench-201: 5)
    max_parameters: CountOrZero = 0  # disregard cells whose network has more; 0: no limit
    max_multiply_adds: CountOrZero = 0  # per image; disregard cells whose network has more; 0: no limit


class ToyBilevelParams(Parameters):
    """Notebook 01: hypergradients of problems whose answer is known."""

    stage: ClassVar[str] = "toy_bilevel"
    seed: CountOrZero
    most_steps: Annotated[Integer, Field(ge=2)]


class OneStepParams(Parameters):
    """Notebook 11: what one step in place of the exact response does to a search."""

    stage: ClassVar[str] = "one_step"
    seed: CountOrZero


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


class ResponseParams(Parameters):
    """Notebook 09: what a response costs."""

    stage: ClassVar[str] = "response"
    seed: CountOrZero
    n_alphas: Annotated[list[Count], Field(min_length=1)]
    steps: Count
    budget: Annotated[Integer, Field(ge=8)]
    supernet_budget: Annotated[Integer, Field(ge=8)]
    darts_budget: CountOrZero
    epochs: Count
    moving_epochs: Count
    every: Count
    unroll: Annotated[Integer, Field(ge=2)]


class InterferenceParams(Parameters):
    """Notebook 10: how far the weights that a supernet has for a cell are from the cell's own."""

    stage: ClassVar[str] = "interference"
    seed: CountOrZero
    data: Text
    limit: CountOrZero
    image_size: CountOrZero
    channels: Count
    epochs: Annotated[Integer, Field(ge=2)]
    cells: Annotated[Integer, Field(ge=2)]
    fine_tuning: list[Count]
    own_epochs: Count
    capacities: Annotated[list[Count], Field(min_length=1)]


MODELS: dict[str, type[Parameters]] = {
    "01_toy_bilevel": ToyBilevelParams,
    "02_toy_hypernetwork": ToyHypernetworkParams,
    "03_search": SearchParams,
    "04_hypergradients": HypergradientParams,
    "05_select": SelectParams,
    "06_evaluate": EvaluateParams,
    "07_analysis": AnalysisParams,
    "08_relatives": RelativesParams,
    "09_price_of_a_response": ResponseParams,
    "10_interference": InterferenceParams,
    "11_one_step": OneStepParams,
}

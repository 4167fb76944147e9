"""Parameters of the replaceable parts of a search; by default they are those of DARTS (hdarts.search)."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from hdarts.params.schedule import Ramp, Schedule, ever_positive
from hdarts.params.types import Count, CountOrZero, Fraction, NotNegative, Positive

ParametrisationName = Literal[
    "softmax",
    "node-softmax",
    "edge-softmax",
    "group-softmax",
    "edge-pairs",
    "gumbel",
    "gumbel-hard",
    "gumbel-hard-published",
    "dirichlet",
    "sigmoid",
    "simplex",
    "edge-simplex",
]
SAMPLED = ("gumbel", "gumbel-hard", "gumbel-hard-published", "dirichlet")
ON_SIMPLEX = ("simplex", "edge-simplex")
SUM_TO_ONE = ("softmax", *SAMPLED, "simplex")  # the weights of an edge


class Stage(BaseModel):
    """One stage of a search: it has its own network, number of candidates and cosine of the learning rate.

    A stage begins with new weights, alpha and optimisers, unless `restart` is false. Before it, the operations with the
    smallest mean weights are pruned on each edge, until `operations` are left (0: all). With `prune` group-best that is
    the best operation without and the best with convolutions. What is not given is that of the search.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    epochs: Count
    layers: CountOrZero = 0
    operations: CountOrZero = 0
    partial_channels: CountOrZero = 0
    prune: Literal["smallest", "group-best"] = "smallest"
    restart: bool = True
    warmup_epochs: CountOrZero | None = None
    parametrisation: ParametrisationName | None = None
    temperature: Schedule | None = None
    levels: Literal["two", "one"] | None = None
    skip_dropout: Fraction = 0.0  # largest probability of dropout on skip connections (P-DARTS's schedule)


class SearchParts(BaseModel):
    """The replaceable parts of a search. Each default is that of DARTS; values that are the default name no run."""

    parametrisation: ParametrisationName = "softmax"  # from alpha to mixture weights
    temperature: Schedule = 1.0  # gumbel, gumbel-hard, edge-pairs
    auxiliary_skip: Schedule = 0.0  # weight of one more skip connection on every edge
    partial_channels: Count = 1  # K: operations see 1/K of the channels
    # term of alpha or of model size, added to the outer loss
    outer_term: Literal["none", "beta-decay", "kl", "zero-one", "multiply-adds", "parameters"] = "none"
    outer_weight: Schedule = 0.0  # factor of that term
    outer_target: NotNegative = 0.0  # multiply-adds and parameters, in millions: penalised above; 0: always
    alpha_step: Literal["adam", "sgd", "exponentiated"] = "adam"  # how a hypergradient moves alpha
    alpha_epsilon: Positive = 1e-8  # Adam of alpha
    alpha_clip: NotNegative = 0.0  # largest norm of the gradient in alpha; 0: not clipped
    warmup_epochs: CountOrZero = 0  # first epochs without a step of alpha
    levels: Literal["two", "one"] = "two"  # one: one loss, on all images, steps alpha and weights together
    neighbourhood: Literal["none", "uniform", "adversarial"] = "none"  # mixture weights of the weight step
    perturbation: Schedule = 0.0  # size of the neighbourhood
    attack_steps: Count = 7  # neighbourhood adversarial
    stages: list[Stage] = []  # empty: one stage of all epochs
    stop_when_stable: CountOrZero = 0  # epochs that do not change the order of convolutions (DARTS+: 10); 0: never
    stop_when_eigenvalue_grows: NotNegative = 0.0  # factor of its local average (RobustDARTS: 1.3); 0: never
    decay_growth: NotNegative = 0.0  # then go back before that, with so many times the weight decay; 0: end
    most_weight_decay: NotNegative = 0.0  # weight decay after which the search goes on to its end
    selection: Literal["strongest", "perturbation", "threshold"] = "strongest"  # from the supernet to a genotype
    max_skips: CountOrZero | None = None  # skip connections that the normal cell may keep; None: any number
    threshold: Fraction = 0.85  # selection threshold: weight that an edge needs
    tuning_epochs: Count = 5  # selection perturbation: epochs between two decisions
    fresh_batches: bool = False  # neumann: a different batch for each term
    adjoint_step: Positive = 0.01  # amortised-adjoint: step size of the adjoint

    @property
    def parametrisations(self) -> list[ParametrisationName]:
        """Those of all stages."""
        return [stage.parametrisation or self.parametrisation for stage in self.stages] or [self.parametrisation]

    def outside(self, *names: str) -> str:
        """Return a parametrisation of the search that is none of `names`, or ""."""
        return next((name for name in self.parametrisations if name not in names), "")

    def _check_parts(self) -> None:
        """Raise ValueError for combinations of parts without meaning."""
        self._check_alpha()
        if self.outer_term == "none" and ever_positive(self.outer_weight):
            raise ValueError("outer_weight: needs an outer_term")
        if self.neighbourhood == "none" and ever_positive(self.perturbation):
            raise ValueError("perturbation: needs a neighbourhood, uniform or adversarial")
        if self.neighbourhood != "none" and not ever_positive(self.perturbation):
            raise ValueError("neighbourhood: needs a perturbation above 0")
        if self.neighbourhood != "none" and self.outside("softmax", "simplex"):
            raise ValueError("neighbourhood: needs parametrisation softmax or simplex")
        by_edge = ("edge-softmax", "edge-simplex", "node-softmax")
        most = max([self.partial_channels, *(stage.partial_channels for stage in self.stages)])
        if most > 1 and (name := self.outside(*SUM_TO_ONE, *by_edge)):
            raise ValueError(f"partial_channels: is not defined for parametrisation {name}")
        drawn = [one.parametrisation or self.parametrisation for one in self.stages if one.skip_dropout]
        if any(name in SAMPLED for name in drawn):
            raise ValueError("skip_dropout: needs a parametrisation without random draws")
        if self.fresh_batches and "one" in (self.levels, *(stage.levels for stage in self.stages)):
            raise ValueError("fresh_batches: needs levels: two")
        if self.selection == "perturbation":
            self._check_perturbation()

    def _check_perturbation(self) -> None:
        if self.outside(*SUM_TO_ONE):
            raise ValueError("selection: perturbation needs a parametrisation whose weights of an edge sum to 1")
        if self.max_skips is not None:
            raise ValueError("max_skips: selection perturbation decides by accuracy and has no cap")
        if self.stages:
            raise ValueError("selection: perturbation is not for a search with stages")
        if self.partial_channels > 1:
            raise ValueError("selection: perturbation deletes edges, which partial_channels above 1 always pass on")

    def _check_alpha(self) -> None:
        on_simplex = [name for name in self.parametrisations if name in ON_SIMPLEX]
        if len(on_simplex) != len(self.parametrisations) * (self.alpha_step == "exponentiated"):
            raise ValueError("alpha_step: exponentiated and parametrisation: simplex or edge-simplex need each other")
        if on_simplex and self.outer_term in ("beta-decay", "kl", "zero-one"):
            lacks = f"which parametrisation {on_simplex[0]} lacks"
            raise ValueError(f"outer_term: {self.outer_term} is a term of logits, {lacks}")
        if self.parametrisation == "edge-pairs" and not any(stage.operations for stage in self.stages):
            raise ValueError("parametrisation: edge-pairs needs a stage that prunes operations before it")
        named = [self.temperature, *(stage.temperature for stage in self.stages if stage.temperature is not None)]
        if not all(min(one.first, one.last) > 0 if isinstance(one, Ramp) else one > 0 for one in named):
            raise ValueError("temperature: must be above 0")


def check_parts_with_the_rest(params: Any) -> None:
    """Raise ValueError where parts do not fit other parameters of a search."""
    groups = [stage.partial_channels or params.partial_channels for stage in params.stages]
    for count in (params.partial_channels, *groups):
        if params.channels % count:
            raise ValueError(f"partial_channels: {count} does not divide channels: {params.channels}")
    for before, stage, after in zip(groups, params.stages[1:], groups[1:], strict=False):
        if not stage.restart and after > before:
            raise ValueError(f"partial_channels: {before}, then {after} needs restart: true; widths can only grow")
        if not stage.restart and after < before and params.method == "hypernetwork":
            raise ValueError("partial_channels: generated weights cannot be widened; set restart: true in the stage")
    if params.outer_term != "none" and params.part == "response":
        raise ValueError("outer_term: belongs to the direct part, which part: response leaves out")
    if params.candidates and params.outside("softmax"):
        raise ValueError("candidates: a cell is one-hot in the softmax; set parametrisation: softmax")
    for name in params.parametrisations:
        if params.noise and name in ("dirichlet", *ON_SIMPLEX):
            raise ValueError(f"noise: leaves what parametrisation {name} is defined for; set noise: 0.0")
    if params.hypernetwork_input == "softmax" and (name := params.outside("softmax", "gumbel", "gumbel-hard")):
        raise ValueError(f"hypernetwork_input: softmax is not for parametrisation {name}")
    if params.method == "hypernetwork" and len(set(params.parametrisations)) > 1:
        raise ValueError("stages: a hypernetwork needs the same parametrisation in all of them")

"""The parameter model of notebook 03, a search, and which of its parameters fit together."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from hdarts.params.base import SGD, Checkpoints, Images, Machine, Network, Parameters
from hdarts.params.parts import SAMPLED, SearchParts, check_parts_with_the_rest
from hdarts.params.types import Count, CountOrZero, Fraction, NotNegative, Positive

SpaceName = Literal[
    "darts",
    "nasbench201",
    "darts-no-none",
    "nasbench201-no-none",
    "s1",
    "s2",
    "s3",
    "s4",
    "single-cell",
]
STOPS = ("stop_when_skips", "stop_when_stable", "stop_when_eigenvalue_grows")


class SearchParams(SearchParts, Parameters, Machine, Images, Network, Checkpoints, SGD):
    """Notebook 03: one architecture search (thesis sections 4.3 to 4.8)."""

    stage: ClassVar[str] = "search"
    search_seed: CountOrZero  # seed of alpha, weights and batches
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.5  # of the training images, for the outer level
    split_seed: CountOrZero = 0  # of that split; the same for all search seeds
    drop_last: bool = False  # as in hdarts 0.1: no short batches, and the shorter level ends an epoch
    space: SpaceName  # search space
    # hypergradient that steps alpha
    method: Literal[
        "random",
        "shared-weights",
        "darts-first",
        "darts-second",
        "unrolled",
        "neumann",
        "conjugate-gradient",
        "nystrom",
        "sama",
        "amortised-adjoint",
        "hypernetwork",
    ]
    part: Literal["total", "response", "direct"] = "total"  # of the hypergradient, steps alpha; response: thesis eq. 22
    alpha_learning_rate: Positive  # of alpha
    alpha_beta1: Fraction = 0.5  # Adam of alpha
    alpha_beta2: Fraction = 0.999  # Adam of alpha
    alpha_weight_decay: NotNegative = 0.001  # of alpha
    alpha_scale: NotNegative = 0.001  # alpha starts as standard normal noise times this
    epsilon: Positive = 0.01  # darts-second: a finite difference with a step of epsilon / ||v||
    steps: Count = 2  # unrolled: inner steps T
    truncate: CountOrZero = 0  # unrolled: back-propagate through the last K steps; 0: all
    terms: Count = 5  # neumann: terms of the series
    iterations: Count = 5  # conjugate-gradient: iterations
    damping: NotNegative = 0.1  # added to the diagonal of the Hessian: conjugate-gradient, nystrom, amortised-adjoint
    candidates: CountOrZero = 0  # shared-weights, and hypernetworks with global_epochs: random cells to rank at the end
    # method hypernetwork; thesis: linear is hyperDARTS-1, mlp hyperDARTS-2
    hypernetwork: Literal["linear", "low-rank", "mlp", "chunked", "graph"] = "mlp"
    activation: Literal["identity", "tanh", "sigmoid", "relu"] = "sigmoid"  # mlp: between its layers
    # mlp: one hidden layer per convolution, or per kind of cell
    hidden: Literal["per_convolution", "shared"] = "per_convolution"
    hidden_size: CountOrZero = 0  # mlp: its width; 0: n_alpha / 2
    rank: Count = 8  # low-rank; method nystrom: columns of the Hessian
    embedding: Count = 32  # chunked: length of the embedding vectors z
    sequential: bool = False  # chunked: one basic kernel after another, as the thesis did; slower, same weights
    # weights outside the cells (thesis experiment 1.1: method 1 learned, 2 generated)
    rest: Literal["learned", "generated"] = "learned"
    # softmax: the mixture weights, so that a discrete cell is one-hot
    hypernetwork_input: Literal["alpha", "softmax"] = "alpha"
    centred: bool = False  # its input is the noise of alpha alone: its matrix is then the response at alpha
    noise: NotNegative = 0.0  # sigma of the noise on alpha while it trains; 0: only along alpha's path
    antithetic: bool = False  # average the gradients at +eps and at -eps
    # zero-response: matrix 0, and as bias the layers' usual start
    initialisation: Literal["default", "zero-response"] = "default"
    global_epochs: CountOrZero = 0  # first epochs that train the hypernetwork at random alphas; 0: alpha moves too
    global_scale: Positive = 1.0  # standard deviation of the random alphas of those epochs
    # of the two steps on a pair of batches; NAS-Bench-201: weights-first
    order: Literal["alpha-first", "weights-first", "together"] = "alpha-first"
    nesterov: bool = False  # Nesterov's momentum in SGD on the weights
    schedule: Literal["epoch", "step"] = "epoch"  # how often the learning rate of the weights changes
    schedule_epochs: CountOrZero = 0  # length of the cosine, if longer than the search; 0: epochs
    stop_when_skips: CountOrZero = 0  # stop when the normal cell has so many skip connections (DARTS+: 2); 0: never
    discretise_epochs: CountOrZero = 1  # epochs between measurements of the accuracy after discretisation; 0: never
    # epochs between dominant eigenvalues of the outer Hessian (20 steps each); 0: never
    eigenvalue_epochs: CountOrZero = 0
    log_every: Count = 2  # steps between rows of hypergradients.csv
    message_rounds: CountOrZero = 2  # hypernetwork graph: steps that alpha of an edge reaches along the cell
    sync_batch_norm: bool = False  # with torchrun: normalise by the whole batch, not each process's part
    response_update: Literal["noise", "tangent"] = "noise"  # how the matrix of a centred hypernetwork learns
    response_rate: Positive = 0.1  # tangent: its step size over the learning rate of the weights

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
        return f"{name}{'' if self.part == 'total' else f'-{self.part}'}-s{self.search_seed}"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self._check_parts()
        self._check_stages()
        check_parts_with_the_rest(self)
        self._check_hypernetwork()
        self._check_candidates()
        self._check_epochs()
        self._check_space()
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: true needs momentum above 0")
        if self.truncate > self.steps:
            raise ValueError(f"truncate: {self.truncate} is more than steps: {self.steps}")
        if self.fresh_batches and self.method != "neumann":
            raise ValueError("fresh_batches: needs method neumann")
        if self.method == "nystrom" and not self.damping:
            raise ValueError("damping: must be above 0 for method nystrom, whose approximation is singular without it")
        return self

    def _check_hypernetwork(self) -> None:
        if self.sequential and (self.method != "hypernetwork" or self.hypernetwork != "chunked"):
            raise ValueError("sequential: true needs method hypernetwork with hypernetwork: chunked")
        if self.response_update == "tangent":
            self._check_tangent()
        elif self.centred and self.noise == 0:
            raise ValueError(
                "centred: true learns nothing without noise; set noise above 0 (0.05 to 0.1 is practical), or "
                "response_update: tangent"
            )
        if self.antithetic and self.noise == 0:
            raise ValueError("antithetic: true needs noise above 0")
        if self.rest == "generated" and self.hypernetwork in ("chunked", "graph"):
            needs = f"needs hypernetwork linear, low-rank or mlp; {self.hypernetwork} makes only weights of cells"
            raise ValueError(f"rest: generated {needs}")
        if self.global_epochs and (self.method != "hypernetwork" or self.centred):
            raise ValueError("global_epochs: needs method hypernetwork, not centred; 0 trains along alpha's path")
        if self.centred and self.hypernetwork_input != "alpha":
            raise ValueError("centred: the input is the noise of alpha, so hypernetwork_input must be alpha")
        if self.method == "hypernetwork" and any(stage.skip_dropout for stage in self.stages) and self.antithetic:
            raise ValueError("skip_dropout: the two passes of antithetic would have different masks")

    def _check_tangent(self) -> None:
        if not self.centred or self.method != "hypernetwork" or self.hypernetwork not in ("linear", "low-rank"):
            raise ValueError(
                "response_update: tangent needs method hypernetwork, linear or low-rank, and centred: true"
            )
        if self.noise:
            raise ValueError("noise: response_update tangent has no noise in the weights; set noise: 0.0")
        if self.neighbourhood != "none":
            raise ValueError("neighbourhood: fixes the mixture weights, so response_update: tangent cannot learn")

    def _check_candidates(self) -> None:
        if self.method == "shared-weights" and not self.candidates:
            raise ValueError("candidates: 0 leaves method shared-weights no cell to choose")
        if self.candidates and self.frozen_epochs < self.epochs:
            raise ValueError("candidates: needs method shared-weights, or hypernetwork with global_epochs = epochs")
        if self.candidates and self.method == "hypernetwork" and self.hypernetwork_input != "softmax":
            raise ValueError("candidates: a cell is one-hot, so its hypernetwork needs hypernetwork_input: softmax")
        if self.candidates and self.selection == "perturbation":
            raise ValueError("selection: perturbation is not for candidates, which are ranked instead")

    def _check_epochs(self) -> None:
        if self.global_epochs >= self.epochs and not (self.candidates and self.global_epochs == self.epochs):
            raise ValueError(f"global_epochs: {self.global_epochs} leaves no epoch for alpha: epochs is {self.epochs}")
        kept = self.stages or self.method == "shared-weights" or self.selection == "perturbation"
        if self.warmup_epochs >= self.epochs and not kept:
            raise ValueError(f"warmup_epochs: {self.warmup_epochs} leaves no epoch for alpha: epochs is {self.epochs}")
        if 0 < self.schedule_epochs < self.epochs:
            raise ValueError(f"schedule_epochs: {self.schedule_epochs} ends before epochs: {self.epochs}; 0 is equal")
        if self.schedule_epochs and self.frozen_epochs:
            raise ValueError("schedule_epochs: is not for a search with frozen alpha; the frozen epochs are its cosine")
        stops = [name for name in STOPS if getattr(self, name)]
        if stops and (self.stages or self.selection == "perturbation"):
            raise ValueError(f"{stops[0]}: is not for a search with stages or selection: perturbation")
        if self.stop_when_eigenvalue_grows and not self.eigenvalue_epochs:
            raise ValueError("stop_when_eigenvalue_grows: needs eigenvalue_epochs above 0")
        if self.decay_growth:
            self._check_decay_growth()

    def _check_decay_growth(self) -> None:
        if not self.stop_when_eigenvalue_grows:
            raise ValueError("decay_growth: needs stop_when_eigenvalue_grows above 0")
        if self.decay_growth <= 1 or not self.weight_decay:
            raise ValueError(f"decay_growth: {self.decay_growth} needs to be above 1, and weight_decay above 0")
        if self.most_weight_decay < self.weight_decay * self.decay_growth * (1 - 1e-9):
            least = f"weight_decay x decay_growth = {self.weight_decay * self.decay_growth:g}"
            raise ValueError(f"most_weight_decay: {self.most_weight_decay:g} allows no growth; set at least {least}")

    def _check_space(self) -> None:
        if "nasbench201" not in self.space and self.space != "single-cell" and self.layers < 3:
            needs = f"the 3 cells that a network of space {self.space} needs"
            raise ValueError(f"`layers` = {self.layers} is less than {needs}")
        if self.space == "s4" and (self.parametrisation in SAMPLED or self.antithetic):
            other = "antithetic: true" if self.antithetic else f"parametrisation: {self.parametrisation}"
            raise ValueError(f"space: s4 draws the values of its operation noise, so it cannot have {other}")
        if self.space == "single-cell" and self.selection == "perturbation":
            raise ValueError("selection: perturbation is not for space single-cell, only for cells of DARTS's size")
        if self.space == "s4" and self.max_skips is not None:
            raise ValueError("max_skips: space s4 has no skip connections")

    def _check_stages(self) -> None:
        if not self.stages:
            return
        if (total := sum(stage.epochs for stage in self.stages)) != self.epochs:
            raise ValueError(f"stages: they have {total} epochs, but epochs is {self.epochs}")
        if self.frozen_epochs:
            raise ValueError("stages: are not for a search with global_epochs or candidates")
        for stage in self.stages:
            if stage.restart is False and (stage.layers or self.layers) != (self.stages[0].layers or self.layers):
                raise ValueError("stages: a stage with other layers needs restart: true")
        if self.stages[0].operations or not self.stages[0].restart:
            raise ValueError("stages: before the first one there is nothing to prune or to keep")

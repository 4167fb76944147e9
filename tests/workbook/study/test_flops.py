"""Floating-point operations: closed forms, published networks, and whole runs counted operation by operation."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.small_runs import EVALUATION, SEARCH, params

from hdarts.data import DatasetInfo
from hdarts.network import EvaluationNetwork
from hdarts.params import EvaluateParams, SearchParams
from hdarts.runs.paths import notebooks_folder
from hdarts.runs.run import Run
from hdarts.search import search
from hdarts.space import Genotype
from hdarts.train import read_genotype, train
from hdarts.workbook.study.estimate import cost_key
from hdarts.workbook.study.flops import Flops, flops_of_run, flops_of_steps, record
from hdarts.workbook.study.probe import Probe

SMALL = {"space": "nasbench201", "layers": 1, "limit": 64, "validation_fraction": 0.5, "noise": 0.0, "epochs": 2}
IMAGES = DatasetInfo(32, 32, (3, 8, 8), 10, 20)
CELL = str(notebooks_folder().parent / "params" / "genotypes" / "darts-v2.json")


def searching(**changes: Any) -> SearchParams:
    found = params({**SEARCH, **SMALL, **changes})
    assert isinstance(found, SearchParams)
    return found


@pytest.mark.parametrize("groups", [1, 4])
def test_a_convolution_and_its_gradients_cost_what_their_shapes_say(groups: int) -> None:
    x, w = torch.randn(3, 8, 10, 10, requires_grad=True), torch.randn(12, 8 // groups, 3, 3, requires_grad=True)
    forward = 2 * (3 * 12 * 5 * 5) * (8 // groups * 3 * 3)
    with Flops() as counter:
        y = F.conv2d(x, w, stride=2, padding=1, groups=groups)
    assert counter.total == forward
    for inputs in ([x], [w], [x, w]):
        with Flops() as counter:
            torch.autograd.grad(y.sum(), inputs, retain_graph=True)
        assert counter.total == len(inputs) * forward, "each gradient costs as much as the convolution"


def test_products_of_matrices_and_vectors_are_counted() -> None:
    a, b, v = torch.randn(3, 5), torch.randn(5, 7), torch.randn(5)
    products = {2 * 3 * 5 * 7: [lambda: a @ b, lambda: torch.addmm(torch.zeros(7), a, b)], 2 * 3 * 5: [lambda: a @ v]}
    products |= {2 * 5: [lambda: v @ v], 2 * 4 * 3 * 5 * 7: [lambda: a.expand(4, 3, 5) @ b.expand(4, 5, 7)]}
    for expected, each in products.items():
        for product in each:
            with Flops() as counter:
                product()
            assert counter.total == expected


def test_a_published_network_costs_twice_its_published_multiply_adds() -> None:
    with torch.device("meta"):
        network = EvaluationNetwork(read_genotype(CELL), 48, 14, 1000, auxiliary=True, stem="imagenet").eval()
    with Flops() as counter:
        network(torch.empty(1, 3, 224, 224, device="meta"))
    assert counter.total == 2 * 529_911_552


def hypergradient(**changes: Any) -> int:
    return flops_of_steps(searching(**changes), IMAGES)[0, "hypergradient"]


def test_methods_cost_what_they_compute() -> None:
    first, second = hypergradient(method="darts-first"), hypergradient(method="darts-second")
    assert 3 < second / first < 6, "the gradient of the inner loss, that at the step, and two of the difference"
    one, two, four = (hypergradient(method="neumann", terms=terms) for terms in (1, 2, 4))
    assert four - one == 3 * (two - one) > 0, "each term is one more product with the Hessian"
    composed = hypergradient(hypernetwork="linear")
    assert first < composed < second < four
    rows = flops_of_steps(searching(method="darts-first", batch_size=32), IMAGES)
    halves = flops_of_steps(searching(method="darts-first"), IMAGES)
    assert all(rows[phase] == 2 * halves[phase] for phase in rows), "without a hypernetwork nothing is fixed"


def test_a_study_counts_searches_once_that_differ_in_parts_or_epochs_only() -> None:
    """They have one `cost_key`, so one count of the steps has the phases of all."""

    def key(params: SearchParams) -> str:
        return cost_key(Probe(params, IMAGES, None, 1))

    both = flops_of_steps(searching(method="darts-second"), IMAGES)
    for changes in ({"part": "direct"}, {"part": "response"}, {"epochs": 3}, {"global_epochs": 0}, {"log_every": 1}):
        wanted = searching(method="darts-second", **changes)
        assert key(wanted) == key(searching(method="darts-second"))
        assert flops_of_run(wanted, IMAGES, steps=both) == flops_of_run(wanted, IMAGES)


STAGES = [{"epochs": 1, "warmup_epochs": 1}, {"epochs": 1, "partial_channels": 1, "operations": 3, "restart": False}]
RUNS: dict[str, dict[str, Any]] = {
    "second order, logged now and then": {"method": "darts-second", "log_every": 2, "discretise_epochs": 0},
    "the direct part": {"method": "darts-second", "part": "direct", "log_every": 3, "discretise_epochs": 0},
    "a global hypernetwork": {"hypernetwork": "linear", "noise": 0.1, "global_epochs": 1, "discretise_epochs": 0},
    "stages": {"method": "darts-first", "channels": 4, "partial_channels": 2, "stages": STAGES, "log_every": 50},
    "perturbation": {"method": "darts-first", "selection": "perturbation", "tuning_epochs": 1, "log_every": 50},
}


@pytest.mark.parametrize("changes", RUNS.values(), ids=RUNS)
def test_the_steps_of_a_search_add_up_to_what_it_computes(changes: dict[str, Any], tmp_path, monkeypatch) -> None:
    """All batches are whole. A validation of a cell counts as one of the supernet."""
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    wanted = searching(**{"discretise_epochs": 0, **changes})
    with Flops() as counter:
        list(search(wanted, run := Run.open(wanted)))
    assert flops_of_run(wanted, IMAGES) == pytest.approx(counter.total, rel=1e-9)
    assert record(run) == record(run) == run.provenance["flops"] == flops_of_run(wanted, IMAGES)


def test_the_steps_of_a_training_add_up_to_what_it_computes(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    wanted = params({**EVALUATION, "genotype": CELL, "limit": 32, "test_limit": 16, "epochs": 2})
    assert isinstance(wanted, EvaluateParams)
    with Flops() as counter:
        list(train(wanted, Run.open(wanted)))
    cell = Genotype.from_text(read_genotype(CELL).to_json())
    assert flops_of_run(wanted, IMAGES._replace(test=16), cell) == pytest.approx(counter.total, rel=1e-9)


def test_a_cell_whose_output_nothing_reaches_is_counted(monkeypatch) -> None:
    wanted = params({**EVALUATION, "genotype": CELL, "channels": 4, "layers": 1, "auxiliary": 0.0})
    cell = Genotype.from_string("|none~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|skip_connect~1|none~2|")
    assert isinstance(wanted, EvaluateParams)
    assert flops_of_run(wanted, IMAGES, cell) > 0

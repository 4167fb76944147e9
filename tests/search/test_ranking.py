"""Random cells ranked by shared weights and by a global hypernetwork, also after an interruption."""

import signal
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.small_runs import SEARCH, computed, differences, params, signal_at

from hdarts import search as s
from hdarts.data import in_order
from hdarts.errors import ParameterError, Stopped
from hdarts.params import SearchParams, identity
from hdarts.runs import checkpoint
from hdarts.runs.randomness import generator
from hdarts.runs.run import Run
from hdarts.search.steps import training_alpha
from hdarts.search.weights import Exploration, GeneratedWeights, SGDSettings
from hdarts.space import DARTS, NASBENCH201, Genotype, discretise, one_hot_alpha

SMALL = {**SEARCH, "space": "nasbench201", "layers": 1, "limit": 96, "epochs": 2, "candidates": 5, "noise": 0.0}
SHARED = {**SMALL, "method": "shared-weights"}
GLOBAL = {**SMALL, "global_epochs": 2, "hypernetwork_input": "softmax"}
CPU = torch.device("cpu")


def search_params(kind: dict) -> SearchParams:
    result = params(kind)
    assert isinstance(result, SearchParams)
    return result


def one_hot(cell: Genotype) -> torch.Tensor:
    return F.one_hot(torch.tensor([NASBENCH201.operations.index(name) for name, _ in cell.cell]), 5).float()[None]


@pytest.mark.parametrize("space", [DARTS, NASBENCH201], ids=lambda space: space.name)
def test_one_hot_alpha_selects_exactly_the_operations_of_a_cell(space):
    for seed in range(5):
        genotype = discretise(torch.randn(space.alpha_shape, generator=generator(seed)), space)
        weights = one_hot_alpha(genotype).softmax(-1)
        assert set(weights.unique().tolist()) == {0.0, 1.0} and bool((weights.sum(-1) == 1).all())
        largest = [[space.operations[o] for o in rows.argmax(-1).tolist()] for rows in weights]
        for kind, operations in zip(genotype.cells.values(), largest, strict=True):
            assert sorted(name for name, _ in kind if name != "none") == sorted(n for n in operations if n != "none")
        if space is NASBENCH201:
            assert discretise(one_hot_alpha(genotype), space) == genotype


@pytest.mark.parametrize("kind", [SHARED, GLOBAL], ids=["shared", "global"])
def test_candidates_are_ranked_by_the_accuracy_of_their_discrete_networks(kind, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    list(computed(kind))
    p = search_params(kind)
    run = Run.open(p)
    assert torch.equal(s.alpha_at(run, 0), s.alpha_at(run, 2)), "alpha is frozen"
    ranking = run.table("ranking")
    assert sorted(ranking["candidate"]) == [0, 1, 2, 3, 4]
    assert ranking["validation_accuracy"].is_monotonic_decreasing
    assert run.result is not None and Genotype.model_validate(run.result["genotype"]).to_string() == ranking["cell"][0]
    assert run.table("timings")["epoch"].tolist() == [1, 2, 3], "the ranking is timed as a further epoch"
    data, saved = s.load_splits(p, CPU), checkpoint.load(run.folder, identity(p))
    assert data.validation is not None and saved is not None
    net = s.make_supernet(p, data)
    for text, accuracy in zip(ranking["cell"], ranking["validation_accuracy"], strict=True):
        weights = one_hot(Genotype.from_string(text))
        w = saved["weights"].get("w")
        if w is None:  # w = h(one-hot)
            w = torch.cat([s.make_hypernetwork(p, net)(saved["weights"]["phi"], weights), saved["weights"]["rest"]])
        right = sum(
            int((net.mixture(x, w, weights).argmax(1) == y).sum()) for x, y in in_order(data.validation, p.batch_size)
        )
        assert accuracy == 100 * right / len(data.validation)


@pytest.mark.parametrize("kind", [SHARED, GLOBAL], ids=["shared", "global"])
def test_a_stopped_and_resumed_ranking_equals_an_uninterrupted_one(kind, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "whole"))
    list(computed(kind))
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "stopped"))
    with monkeypatch.context() as patch:
        signal_at(patch, 2, 1, signal.SIGTERM)
        with pytest.raises(Stopped):
            list(computed(kind))
    list(computed(kind))
    assert differences(tmp_path / "whole", tmp_path / "stopped") == []


def test_shared_weights_learn_at_one_random_cell_per_step():
    p = search_params(SHARED)
    state = s.State.fresh(p, s.make_supernet(p, s.load_splits(p, CPU)), None, CPU)
    cells = []
    for state.step in range(40):
        alpha, _ = training_alpha(p, state)
        cells.append(discretise(alpha, NASBENCH201))
        assert torch.equal(alpha, one_hot_alpha(cells[-1]))
    assert len({cell.to_string() for cell in cells}) > 35
    used = {operation for cell in cells for operation, _ in cell.cell}
    assert used == set(NASBENCH201.operations)


def test_the_response_through_softmax_is_that_of_back_propagation():
    p = search_params(GLOBAL)
    net = s.make_supernet(p, s.load_splits(p, CPU))
    h = s.make_hypernetwork(p, net)
    draw = generator(3)
    phi = h.initial_phi(draw).double()
    rest = torch.randn(net.n_w - h.n_weights, generator=draw, dtype=torch.float64)
    weights = GeneratedWeights(h, phi, rest, SGDSettings(0.9, 0.0, 5.0), Exploration(softmax=True))
    alpha = torch.randn(NASBENCH201.alpha_shape, generator=draw, dtype=torch.float64, requires_grad=True)
    g = torch.randn(net.n_w, generator=draw, dtype=torch.float64)
    w = torch.cat([h(phi, alpha.softmax(-1)), rest])
    torch.testing.assert_close(weights.value(alpha), w.detach(), rtol=1e-12, atol=1e-12)
    (expected,) = torch.autograd.grad(w @ g, alpha)
    torch.testing.assert_close(weights.response(alpha.detach(), g), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "shared-weights", "candidates": 0}, "candidates: 0 leaves method shared-weights no cell to choose"),
        ({"method": "darts-first"}, "candidates: needs method shared-weights, or hypernetwork with global_epochs"),
        ({"global_epochs": 1}, "candidates: needs method shared-weights, or hypernetwork with global_epochs = epochs"),
        ({"global_epochs": 2}, "needs hypernetwork_input: softmax"),
        ({"candidates": 0, "centred": True, "noise": 0.1, "hypernetwork_input": "softmax"}, "must be alpha"),
    ],
)
def test_a_ranking_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ParameterError, match=message):
        search_params({**SMALL, **changes})

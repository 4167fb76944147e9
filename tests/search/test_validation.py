"""Measurements after an epoch of a search, its early end, and its part of a longer schedule."""

import json
import math

import pytest
import torch
from helpers.small_runs import EVALUATION, SEARCH, computed, differences
from helpers.small_runs import params as parameters_of
from torch import Tensor

from benchmarks.reference import PlainSupernet
from hdarts.bilevel import Hypergradient
from hdarts.errors import ParameterError
from hdarts.params.schedule import cosine
from hdarts.runs.randomness import generator
from hdarts.runs.run import Run
from hdarts.search import alpha_at, search
from hdarts.search.validation import dominant_eigenvalue
from hdarts.search.weights import Classification
from hdarts.space import DARTS, NASBENCH201, Genotype, discretise, one_hot_alpha
from hdarts.supernet import Supernet

SMALL = {**SEARCH, "limit": 64, "epochs": 2, "discretise_epochs": 0}


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_the_supernet_at_one_hot_alpha_is_the_plain_network_of_the_kept_edges():
    net, draw = Supernet(DARTS, 2, 3, 10), generator(0)
    w, x = net.initial_w(draw).double(), torch.randn(3, 3, 8, 8, generator=draw, dtype=torch.float64)
    genotype = discretise(torch.randn(DARTS.alpha_shape, generator=draw))
    weights = torch.zeros(DARTS.alpha_shape, dtype=torch.float64)
    for kind, cell in enumerate((genotype.normal, genotype.reduce)):
        for node in range(4):
            for operation, source in cell[2 * node : 2 * node + 2]:
                weights[kind, DARTS.edges.index((source, node + 2)), DARTS.operations.index(operation)] = 1
    plain = PlainSupernet(2, 3, 10, 3).double()
    plain.load(net.layout, w)
    torch.testing.assert_close(net(x, w, one_hot_alpha(genotype).double()), plain(x, weights), rtol=1e-9, atol=1e-9)


class Quadratic:
    """outer = a^T H a / 2 + w^T a."""

    def __init__(self, H: Tensor):
        self.H = H

    def outer(self, w: Tensor, alpha: Tensor, batch: None) -> Tensor:
        return alpha @ self.H @ alpha / 2 + w @ alpha

    inner = outer


@pytest.mark.parametrize("values", [[3.0, -1.0, 0.5], [-4.0, 2.0, 1.0]])
def test_the_dominant_eigenvalue_of_a_quadratic_keeps_its_sign(values):
    basis = torch.linalg.qr(torch.randn(3, 3, generator=generator(0), dtype=torch.float64))[0]
    problem = Quadratic(basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T)
    w, alpha = torch.ones(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    assert dominant_eigenvalue(problem, w, alpha, None) == pytest.approx(values[0], rel=1e-9)


def test_the_dominant_eigenvalue_of_a_supernet_is_that_of_the_dense_hessian():
    net, draw = Supernet(NASBENCH201, 2, 1, 10), generator(0)
    w = net.initial_w(draw).double()
    batch = torch.randn(6, 3, 8, 8, generator=draw, dtype=torch.float64), torch.randint(10, (6,), generator=draw)
    alpha = torch.randn(NASBENCH201.alpha_shape, generator=draw, dtype=torch.float64)
    problem = Classification(net)
    dense = torch.autograd.functional.hessian(lambda a: problem.outer(w, a, batch), alpha)
    values = torch.linalg.eigvalsh(torch.as_tensor(dense).reshape(alpha.numel(), -1))
    assert dominant_eigenvalue(problem, w, alpha, batch) == pytest.approx(
        float(values[values.abs().argmax()]), rel=0.02
    )


MEASURED = {**SMALL, "epochs": 3, "discretise_epochs": 2, "eigenvalue_epochs": 4}


def rows(**changes) -> list[dict]:
    return list(computed({**SMALL, **changes}))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A search with both measurements: its runs folder and its rows."""
    root = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HDARTS_RUNS", str(root))
        return root, list(computed(MEASURED))


def test_measurements_are_made_when_due_and_at_the_last_epoch(measured):
    root, seen = measured
    assert [math.isfinite(row["discretised_accuracy"]) for row in seen] == [False, True, True]
    assert [math.isfinite(row["eigenvalue"]) for row in seen] == [False, False, True]
    result = json.loads((root / "run" / "result.json").read_text())
    assert result["discretised_accuracy"] == seen[-1]["discretised_accuracy"]


def test_without_measurements_the_columns_are_empty_and_the_search_is_the_same(measured):
    for plain, row in zip(rows(epochs=3), measured[1], strict=True):
        assert math.isnan(plain.pop("discretised_accuracy")) and math.isnan(plain.pop("eigenvalue"))
        assert plain.items() <= row.items()


def test_a_stopped_and_resumed_search_has_the_same_measurements(measured, runs):
    next(computed(MEASURED))
    assert len(list(computed(MEASURED))) == 2
    assert differences(measured[0], runs) == []


def towards_skips(problem, weights, alpha, inner, outer, rate):
    """A hypergradient that favours skip connections once the learning rate has begun to fall."""
    pull = torch.zeros_like(alpha)
    pull[..., DARTS.operations.index("skip_connect")] = -1.0 if rate < SMALL["learning_rate"] else 0.0
    return Hypergradient(pull, torch.zeros_like(alpha))


def test_a_search_ends_after_the_epoch_with_too_many_skip_connections():
    params = parameters_of(
        {**SMALL, "epochs": 4, "alpha_learning_rate": 0.1, "stop_when_skips": 5, "discretise_epochs": 4}
    )
    run = Run.open(params)
    seen = list(search(params, run, hypergradient=towards_skips))  # type: ignore[arg-type]
    assert [row["skips_normal"] >= 5 for row in seen] == [False, True]
    result = run.result
    assert result is not None and (result["epochs"], result["epochs_done"]) == (4, 2)
    assert result["discretised_accuracy"] == seen[-1]["discretised_accuracy"]
    assert Genotype(**result["genotype"]) == discretise(alpha_at(run))
    assert result["skips_normal"] == seen[-1]["skips_normal"]


def test_a_search_that_ended_early_and_was_killed_before_its_result_takes_no_further_step():
    params = parameters_of({**SMALL, "epochs": 4, "alpha_learning_rate": 0.1, "stop_when_skips": 5})
    run = Run.open(params)
    list(search(params, run, hypergradient=towards_skips))  # type: ignore[arg-type]
    before = {name: (run.folder / name).read_bytes() for name in ("result.json", "metrics.csv", "alpha.csv")}
    (run.folder / "result.json").unlink()
    assert list(search(params, run, hypergradient=towards_skips)) == []  # type: ignore[arg-type]
    assert before == {name: (run.folder / name).read_bytes() for name in before}


def test_half_of_a_longer_schedule_is_the_first_half_of_the_longer_search():
    half, longer = rows(run="half", schedule_epochs=4), rows(run="longer", epochs=4)
    assert half[1]["learning_rate"] == cosine(SMALL["learning_rate"], 0.0, epoch=1, epochs=4)
    for one, other in zip(half, longer[:2], strict=True):
        assert one == pytest.approx(other, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule_epochs": 1}, "schedule_epochs: 1 ends before epochs: 2"),
        ({"schedule_epochs": 4, "global_epochs": 1}, "is not for a search with frozen alpha"),
        ({"stop_when_skips": -1}, "`stop_when_skips` = -1"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ParameterError, match=message):
        parameters_of({**SMALL, **changes})


@pytest.mark.parametrize("kind", [SMALL, {**SMALL, "method": "random"}, {**EVALUATION, "epochs": 1}])
def test_provenance_has_the_peak_memory(kind, tmp_path):
    if kind["notebook"] == "06_evaluate":
        cell = tmp_path / "cell.json"
        cell.write_text(discretise(torch.zeros(DARTS.alpha_shape)).to_json())
        kind = {**kind, "genotype": str(cell)}
    list(computed(kind))
    provenance = Run.open(parameters_of(kind)).provenance
    assert 50 < provenance["peak_memory_mib"] < 50_000 and provenance["packages"]["torch"]

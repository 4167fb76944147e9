"""Diagnostics read what a search left; every number matches its definition, every sentence its numbers."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.hypergradient_problems import Quadratic
from torch import Tensor

from hdarts import hypergradient as hg
from hdarts import search as s
from hdarts.bilevel import Hypergradient
from hdarts.errors import ParameterError
from hdarts.params import HypergradientParams, SearchParams, check
from hdarts.runs.run import Run
from hdarts.space import DARTS
from hdarts.supernet.layout import agreement
from hdarts.workbook.analysis import diagnostics as m
from hdarts.workbook.analysis.diagnostics.methods import (
    DIFFERENCE,
    DIRECT,
    HALF,
    HYPERNETWORK,
    ONE_STEP,
    OTHER,
    REFERENCE,
    SECOND,
)
from hdarts.workbook.analysis.diagnostics.sentences import describe_batch_size, describe_kinks, describe_sharpness

TINY: dict[str, Any] = {
    "data": "generated",
    "limit": 48,
    "crop_padding": 1,
    "channels": 2,
    "layers": 3,
    "hypernetwork": "low-rank",
    "rank": 2,
    "epochs": 2,
    "batch_size": 8,
    "keep_epochs": [1, 2],
    "device": "cpu",
    "threads": 1,
    "deterministic": False,
}
PARAMETERS: dict[str, Any] = {
    "run": "diagnostics",
    "search": "",
    "epochs": [],
    "seed": 0,
    "device": "cpu",
    "threads": 1,
    "deterministic": False,
    "batch_size": 8,
    "step_size": 0.05,
    "reference_steps": 4,
    "terms": 2,
}


def parameters(**changes: Any) -> HypergradientParams:
    return check(HypergradientParams, {**PARAMETERS, **changes})


@pytest.fixture(scope="module", autouse=True)
def runs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HDARTS_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield


@pytest.fixture(scope="module")
def generated() -> Run:
    return m.short_search("generated", TINY)


@pytest.fixture(scope="module")
def learned() -> Run:
    return m.short_search("learned", TINY | {"method": "darts-first", "epochs": 1, "keep_epochs": [1]})


@pytest.fixture(scope="module")
def snapshot(generated) -> m.Snapshot:
    return list(m.snapshots(generated, parameters()))[-1]


@pytest.fixture(scope="module")
def compared(snapshot) -> m.Comparison:
    return m.compare_methods(snapshot, parameters(), damping=20.0)


def test_snapshot_restores_the_state_of_the_search(generated):
    both = list(m.snapshots(generated, parameters()))
    assert [one.epoch for one in both] == [1, 2]
    for one in both:
        torch.testing.assert_close(one.alpha.double(), s.alpha_at(generated, one.epoch), rtol=1e-6, atol=1e-9)
        assert one.w.shape == (one.problem.supernet.n_w,)
    assert not torch.equal(both[0].w, both[1].w)


def test_epochs_select_snapshots(generated):
    assert [one.epoch for one in m.snapshots(generated, parameters(epochs=[2]))] == [2]
    with pytest.raises(ParameterError, match=r"`epochs` = 7: generated kept no snapshot of it \(kept: 1, 2\)"):
        list(m.snapshots(generated, parameters(epochs=[7])))


def test_last_checkpoint_is_used_without_snapshots():
    changes = {"method": "darts-first", "epochs": 1, "keep_epochs": []}
    kept = m.short_search("kept", TINY | changes | {"keep_checkpoint": True})
    assert [one.epoch for one in m.snapshots(kept, parameters())] == [1]
    bare = m.short_search("bare", TINY | changes)
    with pytest.raises(ParameterError, match="bare has no checkpoint left; search with keep_epochs"):
        list(m.snapshots(bare, parameters()))


def test_missing_and_random_searches_are_refused():
    with pytest.raises(ParameterError, match="`search` = 'nowhere': there is no such run folder"):
        m.read_search("nowhere")
    m.short_search("random", TINY | {"method": "random"})
    with pytest.raises(ParameterError, match="`search` = 'random': a random cell has no weights to examine"):
        m.read_search("random")


def test_batches_depend_on_the_seed_only(snapshot):
    def images(seed: int) -> list[Tensor]:
        return [x for x, _ in snapshot.batches("inner", 8, 5, seed)]

    assert all(torch.equal(a, b) for a, b in zip(images(0), images(0), strict=True))
    assert not torch.equal(images(0)[0], images(1)[0])
    with pytest.raises(ParameterError, match="batch_size is 80"):
        snapshot.batches("outer", 80, 1, 0)


@pytest.mark.parametrize("changes", [{}, {"hypernetwork": "linear", "centred": True, "noise": 0.1}])
def test_composed_hypernetwork_equals_the_one_of_the_search(changes):
    """`composed` gives the weights and the hypergradient of the search's faster implementation, centred or not."""
    run = m.short_search(f"composed-{len(changes)}", TINY | changes | {"epochs": 1, "keep_epochs": [1]})
    (one,) = m.snapshots(run, parameters())
    composed = one.composed()
    assert composed is not None
    torch.testing.assert_close(composed[0].weights(composed[1], one.alpha), one.w)
    (batch,) = one.batches("outer", 8, 1, 0)
    found = hg.hypernetwork(*composed, one.alpha, batch)
    expected = s.method_hypergradient(one.params, one.problem, one.weights, one.alpha, batch, batch, 0.1)
    torch.testing.assert_close(found.direct, expected.direct)
    torch.testing.assert_close(found.response, expected.response)


def test_methods_and_references_share_the_batches(snapshot, compared):
    inner, (outer,) = snapshot.batches("inner", 8, 4, 0), snapshot.batches("outer", 8, 1, 0)
    for name, batches in ((HALF, inner[:2]), (OTHER, inner[2:]), (ONE_STEP, inner[:1])):
        expected = hg.unrolled(snapshot.problem, snapshot.w, snapshot.alpha, batches, outer, 0.05)
        torch.testing.assert_close(compared.estimates[name].part("total"), expected.total)
    torch.testing.assert_close(
        compared.estimates["unrolled, 2 steps"].part("total"), compared.estimates[HALF].part("total")
    )


def test_costs_count_gradients_and_products(compared):
    costs = {name: found.gradients for name, found in compared.estimates.items()}
    assert costs[DIRECT] == costs[HYPERNETWORK] == 1
    assert costs[DIFFERENCE] == costs[ONE_STEP] == 4
    assert costs[REFERENCE] == 2 * 4 + 1 + 4 and costs[SECOND] == 3 + 2 and costs["Neumann, 2 terms"] == 2 + 2


def test_learned_weights_have_no_hypernetwork(learned):
    (one,) = m.snapshots(learned, parameters())
    comparison = m.compare_methods(one, parameters(reference_steps=2, terms=1), damping=20.0)
    assert HYPERNETWORK not in comparison.estimates and one.composed() is None
    assert any("no hypernetwork" in sentence for sentence in m.describe_methods([comparison], parameters()))
    assert {row["variables"] for row in m.sharpness(one, one.batches("inner", 8, 1, 0)[0])} == {"w"}


def test_warnings_of_methods_are_in_the_table_only(snapshot):
    wild = parameters(step_size=5.0, terms=2, reference_steps=2)
    rows = m.method_table([m.compare_methods(snapshot, wild, damping=1e-9)])
    notes = {row["method"]: row["note"] for row in rows}
    assert "the Neumann series diverges" in notes["Neumann, 2 terms"]
    assert notes[DIRECT] == notes[REFERENCE] == ""


def test_method_table_has_each_part_of_each_method(compared):
    rows = {(row["method"], row["part"]): row for row in m.method_table([compared])}
    assert len(rows) == 3 * len(compared.estimates)
    assert rows[REFERENCE, "total"]["relative_error"] == 0
    assert rows[DIRECT, "response"]["relative_error"] == 1 and rows[DIRECT, "response"]["norm"] == 0
    one = compared.estimates[HYPERNETWORK].part("response")
    assert (
        rows[HYPERNETWORK, "response"] | agreement(one, compared.estimates[REFERENCE].part("response"))
        == (rows[HYPERNETWORK, "response"])
    )


def test_only_a_hypernetwork_has_a_response_along_ones(compared):
    shares = {row["method"]: row["along_ones"] for row in m.part_table([compared])}
    assert shares[HYPERNETWORK] > 0.01
    assert max(shares[name] for name in (DIFFERENCE, ONE_STEP, REFERENCE, SECOND)) < 1e-4


def test_norms_of_edges_add_up_to_the_total(compared):
    rows = [row for row in m.edge_table([compared]) if row["method"] == HALF]
    assert len(rows) == len(DARTS.kinds) * len(DARTS.edges)
    whole = float(compared.estimates[HALF].part("total").norm())
    assert math.sqrt(sum(row["norm"] ** 2 for row in rows)) == pytest.approx(whole, rel=1e-5)


def test_every_method_is_compared_with_four_references(compared):
    rows = m.second_opinions([compared])
    assert {row["opinion"] for row in rows} == {REFERENCE, HALF, OTHER, SECOND}
    assert not {row["method"] for row in rows} & {REFERENCE, HALF, OTHER, SECOND}
    local = next(r for r in rows if (r["opinion"], r["method"], r["part"]) == (SECOND, "Neumann, 2 terms", "direct"))
    assert local["relative_error"] < 1e-5, "both have the direct part at the snapshot's weights"


def test_finite_difference_converges_only_on_the_smooth_network(snapshot):
    (inner,), (outer,) = (snapshot.batches(level, 8, 1, 0) for level in ("inner", "outer"))
    rows = m.epsilon_errors(snapshot, inner, outer, 0.05, [1e-2, 1e-3])
    error = {(row["network"], row["epsilon"]): row["relative_error"] for row in rows}
    smooth, kinked = "smooth supernet, float64", "supernet, float64"
    assert error[smooth, 1e-2] < 0.1
    assert error[smooth, 1e-3] == pytest.approx(error[smooth, 1e-2] / 100, rel=0.1), "second order in epsilon"
    assert max(error[kinked, epsilon] for epsilon in (1e-2, 1e-3)) > 30 * error[smooth, 1e-2]
    at = (snapshot.problem, snapshot.w.double(), snapshot.alpha.double())
    doubled = [(x.double(), y) for x, y in (inner, outer)]
    found = hg.finite_difference(*at, doubled[0], doubled[1], 0.05, 1e-2).response
    exact = hg.unrolled(*at, doubled[:1], doubled[1], 0.05).response
    assert error[kinked, 1e-2] == pytest.approx(agreement(found, exact)["relative_error"]), "as in the method"
    law = {row["epsilon"]: row["relative_error"] for row in m.square_root_law(rows)}
    assert law[1e-2] == error[kinked, 1e-2] and law[1e-3] == pytest.approx(10**0.5 * law[1e-2])
    assert any("smooth" in sentence for sentence in describe_kinks(rows))


def test_smooth_activations_end_with_their_context():
    x = torch.tensor([-1.0, 0.0, 2.0])
    with m.SmoothActivations():
        assert torch.equal(F.relu(x), F.softplus(x, beta=4.0))
        assert (F.max_pool2d(x.view(1, 1, 1, 3), 3, 1, 1) < 2).all()
    assert torch.equal(F.relu(x), torch.tensor([0.0, 0.0, 2.0]))


@pytest.mark.parametrize("indefinite", [False, True])
def test_both_ends_of_the_spectrum_are_found(indefinite):
    problem = Quadratic(n_w=40, alpha_shape=(3,), indefinite=indefinite)
    smallest, largest = m.extreme_eigenvalues(problem, problem.w, problem.alpha, None)
    assert smallest == pytest.approx(-0.5 if indefinite else 0.5, abs=0.1)
    assert largest == pytest.approx(2, abs=0.1)


def test_sharpness_is_computed_in_w_and_in_the_updated_variables(snapshot):
    rows = m.sharpness(snapshot, snapshot.batches("inner", 8, 1, 0)[0])
    assert [row["variables"] for row in rows] == ["w", "phi and rest"]
    composed = snapshot.composed()
    assert composed is not None and [row["number"] for row in rows] == [len(snapshot.w), len(composed[1])]
    assert all(row["smallest"] < row["largest"] for row in rows)
    assert math.isnan(rows[0]["rate"]) and rows[1]["rate"] > 0
    assert len(describe_sharpness(rows)) == 2


def test_magnitudes_change_with_the_batch_size_alone(snapshot):
    rows = m.by_batch_size(snapshot, seed=0)
    assert sorted({row["batch_size"] for row in rows}) == [2, 4, 6, 8, 16]
    assert rows == m.by_batch_size(snapshot, seed=0)
    composed = snapshot.composed()
    assert composed is not None
    found = hg.hypernetwork(composed[0], composed[1], snapshot.alpha, snapshot.batches("outer", 8, 1, 0)[0]).total[0]
    expected = float(found.square().mean(-1).sqrt().mean())
    assert next(row["mean"] for row in rows if row["batch_size"] == 8) == pytest.approx(expected)


def test_figure_of_the_thesis_changes_model_and_batch_size_together(snapshot, generated):
    rows = m.as_in_thesis(snapshot.params, "figure", seed=0)
    drawn = {row["model"]: [r["step"] for r in rows if r["model"] == row["model"] and r["drawn"]] for row in rows}
    assert len(drawn["linear"]) == 3 and drawn["linear"] == drawn["two-layer linear"]
    assert {(row["model"], row["batch_size"]) for row in rows} == {("linear", 6), ("two-layer linear", 8)}
    one, other = (m.read_search(f"figure/{name}").params.model_dump() for name in ("linear", "two-layer-linear"))
    assert {key for key in one if one[key] != other[key]} == {"run", "hypernetwork", "activation", "batch_size"}
    base = check(SearchParams, generated.params.model_dump())
    assert (one["learning_rate"], one["channels"]) == (base.learning_rate, base.channels)
    (text,) = describe_batch_size(m.by_batch_size(snapshot, seed=0), rows)
    assert "from 2 to 16" in text and "batches of 8 instead of 6" in text


def invented(**responses: float) -> m.Comparison:
    """A comparison whose responses are rotated away from one axis, by an angle for each method."""

    def turned(angle: float) -> m.Estimate:
        response = torch.zeros(DARTS.alpha_shape)
        response[0, 0, 0], response[0, 0, 1] = math.cos(angle), math.sin(angle)
        direct = torch.zeros(DARTS.alpha_shape)
        direct[1, 0, 0] = 1
        return m.Estimate(Hypergradient(direct, response, {"seconds": 0.0}), 1)

    names = (REFERENCE, HALF, OTHER, SECOND, DIRECT, DIFFERENCE, ONE_STEP, HYPERNETWORK)
    return m.Comparison(3, {name: turned(responses.get(name.split(" ")[0], 0.0)) for name in names})


@pytest.mark.parametrize(
    ("hypernetwork", "darts", "verdict"),
    [
        (0.1, 0.5, "closer to the reference than DARTS's finite difference, whichever of four"),
        (0.5, 0.1, "farther from the reference than DARTS's finite difference, whichever of four"),
    ],
)
def test_verdict_follows_the_numbers(hypernetwork: float, darts: float, verdict: str):
    sentences = m.describe_methods([invented(hypernetwork=hypernetwork, DARTS=darts)], parameters())
    assert all(verdict in sentence for sentence in sentences[-2:])
    assert f"cosine {math.cos(hypernetwork):.2f}" in " ".join(sentences)


def test_verdict_depends_on_the_reference_where_they_disagree():
    mixed = m.describe_methods([invented(hypernetwork=0.3, DARTS=0.1, conjugate=0.5)], parameters())
    assert "depending on the reference" in mixed[-1]
    assert "closer by cosine in 1, by relative error in 1 of 4 comparisons" in mixed[-1]


def test_result_has_the_numbers_of_the_last_snapshot(compared):
    numbers = m.result_numbers([invented(), compared])
    assert numbers["epoch"] == 2
    expected = agreement(compared.estimates[HALF].part("total"), compared.estimates[REFERENCE].part("total"))
    assert numbers["reference_uncertainty"] == expected["relative_error"]
    best = min(numbers["relative_error"][name] for name in numbers["cosine"] if name not in m.REFERENCES)
    assert numbers["relative_error"][numbers["nearest"]] == best

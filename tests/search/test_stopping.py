"""Rules that end a search early: a stable order of the convolutions, a growing eigenvalue."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.small_runs import SEARCH, computed, differences, params

from hdarts import search as s
from hdarts.params import SearchParams
from hdarts.runs.run import Run
from hdarts.search import validation
from hdarts.search.log import PLACE
from hdarts.search.loop import Loop
from hdarts.search.relaxation import Relaxation
from hdarts.search.stopping import before_the_rise, is_stable
from hdarts.space import NASBENCH201, Genotype, discretise

SMALL = {**SEARCH, "limit": 64, "space": "nasbench201", "layers": 1, "method": "darts-first", "keep_epochs": []}
SMALL |= {"noise": 0.0, "epochs": 20, "validation_fraction": 0.5, "checkpoint_minutes": 9.0, "image_size": 8}


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    monkeypatch.setenv("HDARTS_DATA", str(tmp_path))  # without the table of the benchmark


def recorded(alphas: list[torch.Tensor]) -> dict[str, Any]:
    rows = [
        dict(zip(PLACE, (epoch, "cell", *edge), strict=True))
        | dict(zip(NASBENCH201.operations, row.tolist(), strict=True))
        for epoch, alpha in enumerate(alphas)
        for edge, row in zip(NASBENCH201.edges, alpha[0], strict=True)
    ]
    return {"alpha": rows}


def test_only_the_order_of_the_convolutions_has_to_be_stable():
    state: Any = SimpleNamespace(space=NASBENCH201, relaxation=Relaxation(NASBENCH201))
    one, three = (NASBENCH201.operations.index(f"nor_conv_{n}x{n}") for n in (1, 3))
    alphas = [torch.randn(NASBENCH201.alpha_shape, dtype=torch.float64) for _ in range(6)]
    for alpha in alphas:
        alpha[..., one], alpha[..., three] = alpha[..., [one, three]].sort(-1).values.unbind(-1)
    alphas[2][0, 5, one] = alphas[2][0, 5, three] + 1  # the order of one edge changes in epoch 2, and back in epoch 3
    stable = [[is_stable(state, e, epochs, recorded(alphas)) for e in range(epochs, 6)] for epochs in (1, 2, 3)]
    assert stable == [[True, False, False, True, True], [False, False, False, True], [False, False, False]]


def by_the_published_code(values: list[float], every: int, factor: float) -> tuple[int, int] | None:
    """The epochs of the stop and of the cell, by lists that grow with each measurement."""
    averages: list[float] = []
    for count in range(1, len(values) + 1):
        epoch, so_far = every * count, values[:count]
        if count >= 3:
            window = so_far if count < 5 else so_far[count - 5 : count]
            averages.append(sum(window) / len(window))
        kept = epoch - 2 * every - 4 * every
        if kept >= 10 and averages[-1] / averages[-1 - 4] > factor:
            return epoch, kept
    return None


@pytest.mark.parametrize("every", [1, 2])
def test_a_search_stops_when_the_local_average_of_the_eigenvalue_has_grown(every: int):
    changes = {"eigenvalue_epochs": every, "stop_when_eigenvalue_grows": 1.3}
    wanted = params(SMALL | changes)
    assert isinstance(wanted, SearchParams)
    stopped = 0
    for seed in range(20):
        draw = torch.rand(20, generator=torch.Generator().manual_seed(seed))
        values = (0.11 * draw).cumsum(0).exp().tolist()
        rows = [
            {"epoch": e, "eigenvalue": values[e // every - 1] if e % every == 0 else float("nan")}
            for e in range(1, 20 * every + 1)
        ]
        found = ((e, before_the_rise(wanted, {"metrics": rows[:e]})) for e in range(1, len(rows) + 1))
        assert next((pair for pair in found if pair[1]), None) == by_the_published_code(values, every, 1.3)
        stopped += by_the_published_code(values, every, 1.3) is not None
    assert 1 < stopped < 20


def test_a_search_with_a_stable_order_stops_and_a_resumed_one_with_it(tmp_path: Path, monkeypatch):
    kind = {**SMALL, "alpha_learning_rate": 1e-9, "stop_when_stable": 3, "warmup_epochs": 1}
    for name in ("whole", "resumed"):
        monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / name))
        rows = computed(kind)
        if name == "resumed":
            assert [next(rows)["epoch"] for _ in range(4)] == [1, 2, 3, 4]
            rows.close()  # type: ignore[attr-defined]
            assert list(s.search(params(kind), Run.open(params(kind)), finish=True)) == []  # type: ignore[arg-type]
        else:
            assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert differences(tmp_path / "whole", tmp_path / "resumed") == []
    result = Run.open(params(kind)).result
    assert result is not None and (result["epochs"], result["epochs_done"]) == (20, 4)


def test_the_cell_is_that_from_before_the_rise(monkeypatch):
    curvatures = iter([1.0] * 15 + [100.0] * 9)
    monkeypatch.setattr(validation, "dominant_eigenvalue", lambda *_: next(curvatures))
    kind = {**SMALL, "alpha_learning_rate": 0.5, "eigenvalue_epochs": 1, "stop_when_eigenvalue_grows": 1.3}
    assert len(list(computed(kind))) == 16
    run = Run.open(params(kind))
    cell = Genotype.from_json((run.folder / "genotype.json").read_text())
    assert cell == discretise(s.alpha_at(run, 10), NASBENCH201) != discretise(s.alpha_at(run), NASBENCH201)


GROWING = {**SMALL, "alpha_learning_rate": 0.5, "eigenvalue_epochs": 1, "stop_when_eigenvalue_grows": 1.3}
GROWING |= {"weight_decay": 0.01, "decay_growth": 3.0, "most_weight_decay": 0.03}


def searched(monkeypatch: pytest.MonkeyPatch, kind: dict[str, Any], closed: tuple[int, ...] = ()) -> list[int]:
    """Search with an eigenvalue that grows after epoch 15, and again after the roll-back; return the epochs.

    The search is closed and started again after the rows of these numbers.
    """
    values = iter([1.0] * 15 + [100.0] + [1.0] * 4 + [100.0] * 6)
    monkeypatch.setattr(validation, "dominant_eigenvalue", lambda *_: next(values))
    epochs: list[int] = []
    for stop in (*closed, 99):
        rows = s.search(params(kind), Run.open(params(kind)), finish=True)  # type: ignore[arg-type]
        for row in rows:
            epochs.append(row["epoch"])
            if len(epochs) == stop:
                break
        rows.close()  # type: ignore[attr-defined]
    return epochs


def test_a_search_goes_back_before_the_rise_and_on_with_more_weight_decay(tmp_path: Path, monkeypatch):
    assert searched(monkeypatch, GROWING) == [*range(1, 17), *range(11, 21)]
    run, folder = Run.open(params(GROWING)), tmp_path / "plain"
    again = run.table("rollbacks")
    assert again["epoch"].tolist() == list(range(11, 17)) and set(again["weight_decay"]) == {0.01}
    assert not list(run.folder.glob("checkpoint.measured*")), "copies to go back to end with the run"

    def with_more_decay(self: Loop, phase: Any) -> None:
        weights = self.state.weights
        weights.settings = weights.settings._replace(decay=0.01 if self.state.epoch < 10 else 0.03)
        take_epoch(self, phase)

    take_epoch = Loop.epoch
    monkeypatch.setenv("HDARTS_RUNS", str(folder))
    monkeypatch.setattr(Loop, "epoch", with_more_decay)
    plain = {**GROWING, "decay_growth": 0.0, "stop_when_eigenvalue_grows": 0.0}
    assert list(searched(monkeypatch, plain)) == list(range(1, 21))
    other = Run.open(params(plain))
    for name in ("alpha", "hypergradients"):
        assert run.table(name).equals(other.table(name)), name
    assert (run.folder / "genotype.json").read_bytes() == (other.folder / "genotype.json").read_bytes()


def test_a_search_that_was_closed_around_a_roll_back_ends_the_same(tmp_path: Path, monkeypatch):
    for name, closed in {"whole": (), "resumed": (15, 16, 17)}.items():
        monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / name))
        assert searched(monkeypatch, GROWING, closed) == [*range(1, 17), *range(11, 21)]
    assert differences(tmp_path / "whole", tmp_path / "resumed") == []

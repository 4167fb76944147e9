"""Selection by perturbation: against a plain version, a supernet whose answer is known, kills in the middle."""

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.small_runs import SEARCH, computed, differences, params, signal_at

from benchmarks.reference import PlainSupernet
from benchmarks.reference_nasbench201 import PlainBenchmarkSupernet
from benchmarks.reference_perturbation import PlainPerturbation
from hdarts.data import Images, Splits
from hdarts.errors import ParameterError, Stopped
from hdarts.params import SearchParams
from hdarts.runs.paths import with_defaults
from hdarts.runs.run import Run
from hdarts.search import alpha_at, perturbation, search
from hdarts.search.stages import stages_of
from hdarts.space import DARTS, NASBENCH201, SPACES, Genotype
from hdarts.supernet import Mixture
from tests.helpers.plain_searches import CLASSES, COMMON, DATA, Double, compare, start

BENCHMARK = {"space": "nasbench201", "layers": 1, "selection": "perturbation", "tuning_epochs": 2}
CASES: dict[str, dict[str, Any]] = {
    "second order": BENCHMARK | {"method": "darts-second", "tuning_epochs": 1},
    "generated": BENCHMARK | {"hypernetwork": "linear", "tuning_epochs": 1, "noise": 0.1},
    "darts": {"space": "darts", "layers": 3, "selection": "perturbation", "tuning_epochs": 1, "method": "darts-first"},
}


SLOW = {"darts": pytest.mark.soak}


@pytest.mark.parametrize("changes", [pytest.param(c, id=i, marks=SLOW.get(i, ())) for i, c in CASES.items()])
def test_a_search_with_its_decisions_is_the_plain_one(changes: dict[str, Any], tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    wanted = with_defaults(SearchParams, COMMON | changes | {"epochs": 1})
    sizes = wanted.channels, wanted.layers, CLASSES
    model = Double(SPACES[wanted.space], *sizes)

    def plain() -> tuple[list[dict[str, float]], PlainPerturbation, Genotype]:
        net = PlainSupernet(*sizes) if wanted.space == "darts" else PlainBenchmarkSupernet(*sizes)
        made = PlainPerturbation(wanted, net, model.layout, **start(wanted, model, len(model.space.operations)))
        rows, cells = list(made.tuned(DATA)), made.cells()
        return rows, made, Genotype(**cells)  # type: ignore[arg-type]

    compare(wanted, DATA, model, plain)
    run = Run.open(wanted)
    chosen = run.table("perturbation").query("kept and removed != 'edge'")
    assert len(chosen) == len(model.space.kinds) * len(model.space.edges)
    assert torch.isfinite(alpha_at(run)).sum() == len(chosen), "alpha.csv has the decisions"


def test_decisions_have_the_epochs_that_were_published():
    epochs = {}
    for space in (DARTS, NASBENCH201):
        wanted = with_defaults(SearchParams, {"space": space.name, "selection": "perturbation", "epochs": 50})
        tuning = stages_of(wanted)[-1]
        assert (tuning.start, tuning.end) == (50, wanted.all_epochs)
        due = [perturbation.due(wanted, tuning, 50 + t) for t in range(tuning.epochs)]
        assert [number for numbers in due for number in numbers] == list(range(wanted.decisions))
        epochs[space.name] = tuning.epochs, [t for t, numbers in enumerate(due) if numbers]
        assert sum(node > 3 for _, node in [(0, n) for n in range(2, 6)]) == 2
    assert epochs == {"darts": (81, list(range(0, 81, 5))), "nasbench201": (25, [0, 5, 10, 15, 20, 24])}


class OneUseful:
    """A supernet that is right while each edge has its useful operation, whatever else it has."""

    space, useful = NASBENCH201, (3, 1, 4, 0, 2, 3)
    n_w = 2

    def initial_w(self, generator: torch.Generator) -> torch.Tensor:
        return torch.zeros(2)

    def mixture(self, images: torch.Tensor, w: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        mixed = torch.stack([mixture.weights[0, edge, o] for edge, o in enumerate(self.useful)]).prod()
        bright = images.mean((1, 2, 3)) > 0
        return F.one_hot(bright.long(), 2) * mixed + 0 * w


def test_the_one_useful_operation_is_found_whatever_alpha_says(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    pixels = torch.tensor([40, 200] * 8, dtype=torch.uint8)[:, None, None, None].expand(16, 3, 4, 4)
    half = Images(pixels.contiguous(), torch.tensor([0, 1] * 8), torch.full((3,), 0.5), torch.full((3,), 0.3))
    data = Splits("two", ("dark", "bright"), half, half, None, "digest")
    wanted = with_defaults(
        SearchParams, COMMON | BENCHMARK | {"method": "darts-first", "alpha_scale": 2.0, "crop_padding": 0}
    )
    run = Run.open(wanted)
    list(search(wanted, run, data=data, supernet=OneUseful()))
    cell = Genotype.from_json((run.folder / "genotype.json").read_text())
    assert [name for name, _ in cell.cell] == [NASBENCH201.operations[o] for o in OneUseful.useful]
    assert alpha_at(run, 0)[0].argmax(-1).tolist() != list(OneUseful.useful)


def test_a_supernet_of_another_graph_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    wanted = with_defaults(SearchParams, COMMON | CASES["darts"])
    with pytest.raises(ParameterError, match="selection: perturbation needs a supernet with the edges of space darts"):
        list(search(wanted, Run.open(wanted), data=DATA, supernet=Double(NASBENCH201, 2, 1, 3)))


KIND = {**SEARCH, **BENCHMARK, "limit": 64, "validation_fraction": 0.5, "image_size": 8, "epochs": 1}


@pytest.mark.soak  # test_relatives kills the presets of DARTS-PT once each
@pytest.mark.parametrize("changes", [{"method": "darts-first"}, {"parametrisation": "simplex", "noise": 0.0}], ids=str)
def test_a_search_killed_in_tuning_equals_an_uninterrupted_one(changes, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HDARTS_DATA", str(tmp_path))
    kind = KIND | changes | ({"alpha_step": "exponentiated"} if "parametrisation" in changes else {})
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "whole"))
    rows = list(computed(kind))
    assert [row["epoch"] for row in rows] == list(range(1, 1 + params(kind).all_epochs))  # type: ignore[attr-defined]
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "killed"))
    for epoch, step in ((4, 1), (5, 0)):  # after a decision; in an epoch without one
        with monkeypatch.context() as patch, pytest.raises(Stopped):
            signal_at(patch, epoch, step, signal.SIGTERM)
            list(computed(kind))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(perturbation, "keep_only", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        list(computed(kind))
    list(computed(kind))
    assert differences(tmp_path / "whole", tmp_path / "killed") == []


def test_a_node_keeps_the_two_edges_that_it_misses_most_and_of_equal_ones_the_first():
    accuracies = {(0, 3): 50.0, (1, 3): 70.0, (2, 3): 50.0, (0, 4): 60.0, (1, 4): 60.0, (2, 4): 60.0, (3, 4): 60.0}
    accuracies |= {(0, 5): 10.0, (1, 5): 30.0, (2, 5): 30.0, (3, 5): 20.0, (4, 5): 30.0}
    kept = torch.zeros(DARTS.alpha_shape, dtype=torch.bool)
    kept[..., 4] = True
    relaxation = SimpleNamespace(kept=kept, parametrisation=SimpleNamespace(normalise=None))
    state: Any = SimpleNamespace(space=DARTS, relaxation=relaxation, epoch=8)

    class Known(perturbation.Ablation):
        def accuracies(self, kind, removed):
            assert kind == 1 and all(operations == slice(None) for _, operations in removed)
            return [accuracies[DARTS.edges[edge]] for edge, _ in removed]

    without, nobody = Known(*[None] * 3, state), torch.Generator()  # type: ignore[arg-type]
    rows = [row for _ in range(4) for row in perturbation.decide_edges(without, 1, nobody)]
    assert len(rows) == 3 + 4 + 5, "each crowded node once, then none"
    left = {(row["source"], row["node"]) for row in rows if row["kept"]}
    assert left == {(0, 3), (2, 3), (0, 4), (1, 4), (0, 5), (3, 5)}
    present = [edge for edge, row in zip(DARTS.edges, kept[1].tolist(), strict=True) if not row[0]]
    assert set(present) == left | {(0, 2), (1, 2)} and kept[0, :, 4].all()

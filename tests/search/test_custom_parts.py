"""User-defined parts: an object that does what a named part does gives the same search, bit for bit."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from hdarts.params import SearchParams, check, notebook_defaults
from hdarts.runs.run import Run
from hdarts.search import Parts, State, search
from hdarts.search.neighbourhood import uniform
from hdarts.search.outer_term import beta_decay
from hdarts.search.parametrisation import PARAMETRISATIONS
from hdarts.search.selection import above
from hdarts.search.stages import pruned
from tests.helpers import ROOT

TINY: dict[str, Any] = notebook_defaults(ROOT / "notebooks" / "03_search.ipynb") | {
    **{"data": "generated", "limit": 48, "batch_size": 12, "channels": 2, "epochs": 2, "log_every": 1, "layers": 1},
    **{"space": "nasbench201", "method": "darts-first", "crop_padding": 0, "keep_checkpoint": True},
    "checkpoint_minutes": 1e-6,
}
SIZE = torch.tensor(0.1, dtype=torch.float64)
STAGES = [{"epochs": 1}, {"epochs": 1, "operations": 2}]


CASES = {
    "parametrisation": ({"parametrisation": "sigmoid"}, Parts(parametrisation=PARAMETRISATIONS["sigmoid"])),
    "draws": ({"parametrisation": "gumbel-hard"}, Parts(parametrisation=PARAMETRISATIONS["gumbel-hard"])),
    "outer term": (
        {"outer_term": "beta-decay", "outer_weight": 2.0},
        Parts(outer_term=lambda alpha, weights: 2.0 * beta_decay(alpha, weights, None)),
    ),
    "alpha step": (
        {"alpha_step": "sgd", "alpha_weight_decay": 0.0},
        Parts(alpha_step=lambda alpha: torch.optim.SGD([alpha], TINY["alpha_learning_rate"])),
    ),
    "neighbourhood": (
        {"neighbourhood": "uniform", "perturbation": 0.1},
        Parts(neighbourhood=lambda p, direction, loss: uniform(p, SIZE, direction)),
    ),
    "selection": (
        {"selection": "threshold", "threshold": 0.9},
        Parts(selection=partial(above, threshold=0.9)),
    ),
    "stages": (
        {"stages": STAGES},
        Parts(prune=lambda w, kept, stage, space: pruned(w, kept, replace(stage, operations=2), space)),
    ),
}


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], parts: Parts) -> dict[str, bytes]:
    """Search in a new runs folder and return the files that do not depend on the clock."""
    monkeypatch.setenv("HDARTS_RUNS", str(folder))
    one = Run.open(check(SearchParams, TINY | changes | {"run": "one"}))
    list(search(one.params, one, parts=parts))  # type: ignore[arg-type]
    names = ("metrics.csv", "alpha.csv", "hypergradients.csv", "genotype.json", "result.json")
    return {name: (one.folder / name).read_bytes() for name in names}


@pytest.mark.parametrize("name", CASES)
def test_a_part_passed_as_an_object_gives_the_search_of_the_named_one(name: str, tmp_path: Path, monkeypatch):
    changes, parts = CASES[name]
    named = run(tmp_path / "named", monkeypatch, changes, Parts())
    kept = {"stages": [STAGES[0], {**STAGES[1], "operations": 3}]} if name == "stages" else {}
    assert run(tmp_path / "object", monkeypatch, kept, parts) == named
    plain = run(tmp_path / "plain", monkeypatch, kept, Parts())
    assert plain != named, "the part changes the search"


def test_a_search_with_an_optimiser_of_the_user_resumes_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    parts = Parts(alpha_step=lambda alpha: torch.optim.RMSprop([alpha], 0.01, momentum=0.5))
    whole = run(tmp_path / "whole", monkeypatch, {}, parts)
    take = State.count

    def killed(state: State, *arguments: Any) -> None:
        if (state.epoch, state.step) == (1, 1):
            raise KeyboardInterrupt
        take(state, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(State, "count", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", monkeypatch, {}, parts)
    assert run(tmp_path / "stopped", monkeypatch, {}, parts) == whole

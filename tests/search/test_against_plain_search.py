"""Whole searches against a plain one in float64: explicit loops, torch.optim and autograd (benchmarks)."""

from typing import Any

import pytest

from benchmarks.reference import PlainSupernet
from benchmarks.reference_nasbench201 import PlainBenchmarkSupernet
from benchmarks.reference_search import PlainSearch
from hdarts.params import SearchParams
from hdarts.runs.paths import with_defaults
from hdarts.space import SPACES, Genotype, discretise
from tests.helpers.plain_searches import CLASSES, COMMON, DATA, Double, compare, start

METHODS: dict[str, dict[str, Any]] = {
    "darts-first": {"method": "darts-first"},
    "darts-second": {"method": "darts-second"},
    "hyperdarts-1": {"hypernetwork": "linear"},
    "hyperdarts-2": {"hypernetwork": "mlp", "hidden_size": 3},
}
OFFICIAL = {"order": "weights-first", "nesterov": True, "schedule": "step"}
SMALL = {"space": "nasbench201", "layers": 1}
CASES = {
    **{name: SMALL | changes for name, changes in METHODS.items()},
    "noise": SMALL | {"hypernetwork": "linear", "noise": 0.1},
    "centred": SMALL | {"hypernetwork": "linear", "noise": 0.1, "centred": True, "antithetic": True},
    "response": SMALL | {"hypernetwork": "linear", "part": "response"},
    "direct": SMALL | {"method": "darts-second", "part": "direct"},
    "darts-second, official": SMALL | OFFICIAL | METHODS["darts-second"],
    "hyperdarts-1, official": SMALL | OFFICIAL | METHODS["hyperdarts-1"],
    "darts-second, together": SMALL | {"order": "together"} | METHODS["darts-second"],
    "drop_last": SMALL | {"method": "darts-first", "drop_last": True},
    **{f"{name} in DARTS": {"space": "darts", "layers": 3, **changes} for name, changes in METHODS.items()},
}


SLOW = ("darts-first in DARTS", "hyperdarts-2 in DARTS")  # the other two are the same step and more


@pytest.mark.parametrize(
    "changes", [pytest.param(c, id=name, marks=[pytest.mark.soak] * (name in SLOW)) for name, c in CASES.items()]
)
def test_a_search_is_the_plain_search(changes: dict[str, Any], tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    params = with_defaults(SearchParams, COMMON | changes)
    sizes = params.channels, params.layers, CLASSES
    model = Double(SPACES[params.space], *sizes)

    def plain() -> tuple[list[dict[str, float]], PlainSearch, Genotype]:
        net = PlainSupernet(*sizes) if params.space == "darts" else PlainBenchmarkSupernet(*sizes)
        made = PlainSearch(params, net, model.layout, **start(params, model, len(model.space.operations)))
        return list(made.epochs(DATA)), made, discretise(made.alpha, model.space)

    compare(params, DATA, model, plain)

"""Searches by the relatives of DARTS, as their presets say, against plain ones written from the papers, in float64."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks import reference_formulas as relatives
from benchmarks.reference_formulas import Relative, best_of_groups, cell, cell_of_pairs, largest
from benchmarks.reference_relatives import Parts, RelativeSearch, network
from benchmarks.reference_search import PlainSearch
from hdarts.data import Splits
from hdarts.params import SearchParams, read_yaml
from hdarts.runs.paths import with_defaults
from hdarts.runs.randomness import generator
from hdarts.search.stages import StagePlan, stages_of
from hdarts.space import DARTS, NASBENCH201, SPACES, Genotype
from hdarts.supernet.layout import Layout
from tests.helpers import ROOT
from tests.helpers.plain_searches import CLASSES, COMMON, Double, compare, random_images, start

DATA = Splits("random", ("a", "b", "c"), random_images("train", 12), random_images("validation", 8), None, "digest")
SMALL = {"space": "nasbench201", "layers": 1}
LARGE = {"space": "darts", "layers": 3}
FIRST: dict[str, Any] = {"method": "darts-first"}
HYPER: dict[str, Any] = {"method": "hypernetwork", "hypernetwork": "linear"}
BETA_DECAY = {"outer_term": "beta-decay", "outer_weight": {"first": 0.0, "last": 50.0}}
# name: relative in the plain search, preset, changes
CASES: dict[str, tuple[Relative, str, dict[str, Any]]] = {
    "snas": (relatives.SNAS, "snas", SMALL | {"alpha_clip": 0.01, "order": "weights-first"}),
    "snas in DARTS": (relatives.SNAS, "snas", LARGE | {"alpha_clip": 0.01}),
    "snas, bilevel": (relatives.SNAS_BILEVEL, "nasbench201-snas", SMALL),
    "gdas": (relatives.GDAS, "nasbench201-gdas", SMALL | {"parametrisation": "gumbel-hard"}),
    "gdas, published": (relatives.GDAS_PUBLISHED, "nasbench201-gdas", SMALL),
    "gdas, published in DARTS": (relatives.GDAS_PUBLISHED, "gdas", LARGE),
    "pc-darts": (relatives.PC_DARTS, "pc-darts", LARGE | {"channels": 4}),
    "pc-darts in NAS-Bench-201": (
        replace(relatives.PC_DARTS, warmup=0), "nasbench201-pc-darts", SMALL | {"channels": 4},
    ),
    "sdarts-rs": (relatives.SDARTS_RS, "nasbench201-sdarts-rs", SMALL),
    "sdarts-adv": (relatives.SDARTS_ADV, "nasbench201-sdarts-adv", SMALL),
    "sdarts-adv in DARTS": (relatives.SDARTS_ADV, "sdarts-adv", LARGE),
    "sdarts-rs in DARTS": (relatives.SDARTS_RS, "sdarts-rs", LARGE),
    "darts-minus": (relatives.DARTS_MINUS, "darts-minus", LARGE),
    "darts-minus in NAS-Bench-201": (relatives.DARTS_MINUS, "nasbench201-darts-minus", SMALL),
    "beta-darts": (relatives.BETA_DARTS, "beta-darts", LARGE),
    "beta-darts in NAS-Bench-201": (relatives.BETA_DARTS_NASBENCH201, "nasbench201-beta-darts", SMALL),
    "beta-darts, second order": (
        relatives.BETA_DARTS_NASBENCH201, "nasbench201-beta-darts", SMALL | {"method": "darts-second"},
    ),
    "i-darts": (relatives.I_DARTS, "i-darts", LARGE),
    "i-darts in NAS-Bench-201": (relatives.I_DARTS, "i-darts", SMALL),
    "drnas": (relatives.DRNAS, "nasbench201-drnas", SMALL),
    "drnas, kl": (
        replace(relatives.DRNAS, term=relatives.kl, term_weight=lambda t, T: 0.3), "nasbench201-drnas",
        SMALL | {"outer_term": "kl", "outer_weight": 0.3},
    ),
    "drnas in DARTS": (
        replace(relatives.DRNAS, groups=4, warmup=1), "drnas",
        LARGE | {"channels": 4, "warmup_epochs": 1, "stages": [], "partial_channels": 4},
    ),
    "gaea": (
        relatives.GAEA, "nasbench201-gaea",
        SMALL | {"alpha_scale": 0.0, "alpha_learning_rate": 50.0, "schedule_epochs": 4},
    ),
    "gaea in DARTS": (
        relatives.GAEA_PC_DARTS, "gaea",
        LARGE | {"channels": 4, "alpha_scale": 0.0, "alpha_learning_rate": 5.0},
    ),
    "fairdarts": (relatives.FAIRDARTS, "fairdarts", LARGE | {"threshold": 0.55}),
    "hyperdarts-1 with beta decay": (relatives.BETA_DARTS_NASBENCH201, "hyperdarts-1", SMALL | HYPER | BETA_DECAY),
    "hyperdarts-1 with an auxiliary skip": (
        relatives.DARTS_MINUS, "hyperdarts-1", LARGE | HYPER | {"auxiliary_skip": {"first": 1.0, "last": 0.0}},
    ),
    "hyperdarts-1 with edge weights": (
        Relative(relatives.edge_softmax), "hyperdarts-1", SMALL | HYPER | {"parametrisation": "edge-softmax"},
    ),
    "hyperdarts-2 with a sigmoid": (
        relatives.FAIRDARTS, "hyperdarts-2",
        SMALL | HYPER | {"hypernetwork": "mlp", "hidden_size": 3, "parametrisation": "sigmoid"}
        | {"outer_term": "zero-one", "outer_weight": 10.0},
    ),
    "hyperdarts-centred with edge weights, partial channels and beta decay": (
        replace(relatives.BETA_DARTS_NASBENCH201, mixture=relatives.edge_softmax, groups=2), "hyperdarts-centred",
        SMALL | HYPER | BETA_DECAY | {"parametrisation": "edge-softmax", "partial_channels": 2, "channels": 4}
        | {"initialisation": "default"},
    ),
}  # fmt: skip


Plain = tuple[list[dict[str, float]], PlainSearch, Genotype]


def of_preset(preset: str, changes: dict[str, Any]) -> SearchParams:
    """Return the parameters of a preset, in a tiny size."""
    values = {**read_yaml(ROOT / "params" / "search" / f"{preset}.yaml"), **COMMON, "keep_epochs": []}
    values |= {"warmup_epochs": min(1, values.get("warmup_epochs", 0)), "schedule_epochs": 0}
    return with_defaults(SearchParams, values | changes)


# and shown elsewhere, most in the other space
SLOW = (
    "sdarts-adv in DARTS", "sdarts-rs in DARTS", "snas in DARTS", "gdas, published in DARTS", "drnas in DARTS",
    "hyperdarts-1 with an auxiliary skip", "i-darts", "beta-darts",
)  # fmt: skip


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=name, marks=[pytest.mark.soak] * (name in SLOW)) for name, case in CASES.items()],
)
def test_a_search_is_that_of_the_paper(case: tuple[Relative, str, dict[str, Any]], tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    relative, params = case[0], of_preset(*case[1:])
    sizes = params.channels, params.layers, CLASSES
    more = {"auxiliary_skip": relative.auxiliary is not None, "partial_channels": relative.groups}
    model = Double(SPACES[params.space], *sizes, **more)  # pyright: ignore[reportArgumentType]

    def plain() -> Plain:
        parts = Parts(relative)
        of_edges = relative.mixture in (relatives.edge_softmax, relatives.itself_with_edges)
        begin = start(params, model, len(model.space.operations) + of_edges)
        if relative.exponentiated:
            begin["alpha"].fill_(1 / len(model.space.operations))
            for e, (_, node) in enumerate(model.space.edges if of_edges else ()):
                begin["alpha"][:, e, -1] = 1 / sum(target == node for _, target in model.space.edges)
        net = network(params.space, *sizes, parts)
        made = RelativeSearch(parts, model.space, params, net, model.layout, **begin)
        rows = list(made.epochs(DATA))
        mixture = made.mixture(made.alpha.detach(), "")
        threshold = params.threshold if params.selection == "threshold" else 0.0
        return rows, made, cell(mixture[..., :-1] * mixture[..., -1:], model.space, threshold)

    compare(params, DATA, model, plain)


def supernets_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search in float64, with the cells of each stage."""

    def make(params: SearchParams, data: Splits, stage: StagePlan | None = None) -> Double:
        stage = stage or stages_of(params)[0]
        return Double(
            SPACES[params.space], params.channels, stage.layers, CLASSES, partial_channels=stage.partial_channels
        )

    monkeypatch.setattr("hdarts.search.start.make_supernet", make)


def stage(
    relative: Relative, params: SearchParams, layers: int, columns: int, number: int, kept: torch.Tensor | None
) -> RelativeSearch:
    """Return the plain search at the start of a stage, anew."""
    parts, space = Parts(relative), SPACES[params.space]
    model = Double(space, params.channels, layers, CLASSES, partial_channels=relative.groups)
    net = network(params.space, params.channels, layers, CLASSES, parts)
    begin = start(params, model, columns, number)
    return RelativeSearch(parts, space, params, net, model.layout, kept=kept, **begin)


def test_a_whole_search_is_that_of_p_darts(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    supernets_in_float64(monkeypatch)
    layers, left, dropout = (3, 3, 4), (8, 5, 3), (0.0, 0.4, 0.7)
    stages = read_yaml(ROOT / "params" / "search" / "p-darts.yaml")["stages"]
    stages = [
        one | {"epochs": 2, "layers": cells, "warmup_epochs": 1} for one, cells in zip(stages, layers, strict=True)
    ]
    sizes = {"stages": stages, "epochs": 6, "alpha_clip": 0.01, "max_skips": 0}
    params = of_preset("p-darts", LARGE | sizes)

    def plain() -> Plain:
        rows, made, kept = [], None, torch.ones(DARTS.alpha_shape, dtype=torch.bool)
        for number in range(3):
            kept = largest(made.mixture(made.alpha.detach(), "")[..., :-1], kept, left[number]) if made else kept
            relative = replace(relatives.P_DARTS, skip_dropout=dropout[number])
            made = stage(relative, params, layers[number], 8, number, kept)
            made.start, made.count = 2 * number, 2
            rows += made.epochs(DATA)
        assert made is not None
        return rows, made, cell(made.mixture(made.alpha.detach(), "")[..., :-1], DARTS, most_skips=0)

    compare(params, DATA, None, plain)


def widened(vector: torch.Tensor, old: Layout, new: Layout, seed: int) -> torch.Tensor:
    """Return weights whose convolutions on edges have random copies of rows, then of columns (NAS-Bench-201)."""
    source, values = generator(seed, "widening", 1), dict(old.unpack(vector.detach()))
    for name, before, after in zip(new.names, old.shapes, new.shapes, strict=True):
        for axis in (0, 1) if before != after else ():
            copies = torch.randint(before[axis], (after[axis] - before[axis],), generator=source)
            values[name] = torch.cat([values[name], values[name].index_select(axis, copies)], axis)
    return new.pack(values)


def test_a_whole_search_is_that_of_drnas(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    supernets_in_float64(monkeypatch)
    stages = read_yaml(ROOT / "params" / "search" / "nasbench201-drnas-progressive.yaml")["stages"]
    stages = [one | {"epochs": 2, "warmup_epochs": 1} for one in stages]
    changes = {"channels": 4, "epochs": 4, "schedule_epochs": 4, "stages": stages}
    params = of_preset("nasbench201-drnas-progressive", SMALL | changes)

    def plain() -> Plain:
        first, second = (replace(relatives.DRNAS, groups=groups, warmup=1) for groups in (4, 2))
        made = stage(first, params, 1, 5, 0, None)
        made.start, made.count = 0, 2
        rows = list(made.epochs(DATA))
        kept = largest(made.mixture(made.alpha.detach(), "")[..., :-1], made.kept, 3)
        wide = stage(second, params, 1, 5, 1, kept)
        wide.alpha.data.copy_(made.alpha.detach())
        wide.adam.load_state_dict(made.adam.state_dict())
        layouts = made.layout, wide.layout
        wide.trained[0].data.copy_(widened(made.trained[0], *layouts, params.search_seed))
        momentum = widened(made.sgd.state[made.trained[0]]["momentum_buffer"], *layouts, params.search_seed)
        wide.sgd.state[wide.trained[0]]["momentum_buffer"] = momentum
        wide.start, wide.count = 2, 2
        rows += wide.epochs(DATA)
        return rows, wide, cell(wide.mixture(wide.alpha.detach(), "")[..., :-1], NASBENCH201)

    compare(params, DATA, None, plain)


def test_a_whole_search_is_that_of_dots(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    supernets_in_float64(monkeypatch)
    epochs, warmup = (2, 1, 3), (1, 1, 0)
    stages = read_yaml(ROOT / "params" / "search" / "dots.yaml")["stages"]
    short = [{"epochs": n, "warmup_epochs": rest} for n, rest in zip(epochs, warmup, strict=True)]
    stages = [one | changes for one, changes in zip(stages, short, strict=True)]
    params = of_preset("dots", LARGE | {"stages": stages, "epochs": 6, "schedule_epochs": 6})

    def plain() -> Plain:
        operations, topology, together = relatives.DOTS
        first = stage(operations, params, 3, 8, 0, None)
        first.start, first.count = 0, 2
        rows = list(first.epochs(DATA))
        kept = best_of_groups(first.mixture(first.alpha.detach(), "")[..., :-1])
        made = stage(topology, params, 3, 12, 1, kept)
        made.start, made.count = 2, 1
        rows += made.epochs(DATA)
        made.parts.relative = made.relative = together  # the network and the momentum stay
        made.start, made.count = 3, 3
        rows += made.epochs(DATA)
        return rows, made, cell_of_pairs(made.alpha.detach(), kept, DARTS)

    compare(params, DATA, None, plain)

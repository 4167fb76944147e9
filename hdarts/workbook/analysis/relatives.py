"""Notebook 08: what each replaceable part of a search does, as tables."""

import os
from collections.abc import Iterable, Mapping
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch
from torch import Tensor

from hdarts import search as s
from hdarts.params import SearchParams, read_yaml
from hdarts.params.parts import SearchParts
from hdarts.params.schedule import value_at
from hdarts.runs import checkpoint
from hdarts.runs.paths import notebooks_folder, with_defaults
from hdarts.runs.randomness import generator
from hdarts.runs.run import Run
from hdarts.search.neighbourhood import adversarial, uniform
from hdarts.search.parametrisation import PARAMETRISATIONS
from hdarts.search.perturbation import Ablation
from hdarts.search.relaxation import Relaxation
from hdarts.search.stages import stages_of
from hdarts.search.start import resumed
from hdarts.space import NASBENCH201, SPACES
from hdarts.toys import MicroDARTS
from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.toy_experiments.accuracy import OPERATIONS, simplex

PARTS = {  # column of the table part x method: the parameters of the part
    "hypergradient": ("method", "terms", "fresh_batches"),
    "parametrisation": ("parametrisation", "temperature"),
    "outer term": ("outer_term", "outer_weight"),
    "alpha step": ("alpha_step", "alpha_clip", "levels"),
    "neighbourhood": ("neighbourhood", "perturbation"),
    "stages": (
        "warmup_epochs",
        "stages",
        "stop_when_skips",
        "stop_when_stable",
        "stop_when_eigenvalue_grows",
        "decay_growth",
        "most_weight_decay",
    ),
    "selection": ("selection", "threshold", "max_skips"),
    "supernet": ("partial_channels", "auxiliary_skip"),
}
PLAIN: Row = {"method": "darts-first", "stop_when_skips": 0, "terms": 0}  # what other parameters have in DARTS
ALONE = ("method", "parametrisation", "outer_term", "alpha_step", "neighbourhood", "selection")  # said without name
EPOCHS_SHOWN = 40
EDGE = 3  # of NAS-Bench-201, from node 0 to node 3
SHOWN = {  # parametrisation: a preset that uses it, with its temperatures
    **{"softmax": "darts-first", "node-softmax": "i-darts", "edge-softmax": "pc-darts", "group-softmax": "dots"},
    **{"edge-pairs": "dots", "gumbel": "snas", "gumbel-hard-published": "gdas", "dirichlet": "drnas"},
    "sigmoid": "fairdarts",
}
HAVE_TEMPERATURE = ("edge-pairs", "gumbel", "gumbel-hard-published")
SMALL: Row = {  # a search of seconds
    **{"data": "digits", "crop_padding": 1, "flip": False, "channels": 4, "layers": 1, "batch_size": 64},
    **{"log_every": 1, "discretise_epochs": 0, "keep_checkpoint": True, "warmup_epochs": 0, "schedule_epochs": 0},
    **{"alpha_learning_rate": 0.01, "learning_rate": 0.025},
}


def preset(name: str, changes: Mapping[str, Any] | None = None) -> Row:
    """Return the parameters in `params/search/<name>.yaml`, with `changes`."""
    return read_yaml(notebooks_folder().parent / "params" / "search" / f"{name}.yaml") | dict(changes or {})


def parts_of_presets() -> pd.DataFrame:
    """Return one row per preset in `params/search` that changes a part of DARTS: preset, space, and the parts."""
    rows = []
    for path in sorted((notebooks_folder().parent / "params" / "search").glob("*.yaml")):
        values = preset(path.stem)
        parts = {part: _words(values, names) for part, names in PARTS.items()}
        if any(parts.values()) and values.get("method") != "random":
            rows.append({"preset": path.stem, "space": values.get("space", "darts"), **parts})
    return pd.DataFrame(rows)


def _words(values: Row, names: Iterable[str]) -> str:
    """Return what differs from DARTS in the parameters `names` of one part, in words."""
    said, stages = [], values.get("stages", [])
    for name in names:
        plain = SearchParts.model_fields[name].default if name in SearchParts.model_fields else PLAIN[name]
        of_stages = [stage[name] for stage in stages if name in ("parametrisation", "temperature") and name in stage]
        for value in of_stages or [values.get(name, plain)]:
            if value == plain:
                continue
            text = f"{value:g}" if isinstance(value, float) else str(value)
            if isinstance(value, dict):
                text = f"{value['first']:g} to {value['last']:g}"
            if isinstance(value, list):
                kept = [str(stage["operations"]) for stage in stages if "operations" in stage]
                text = f"{len(value)}, operations per edge: all, {', '.join(kept)}"
            said.append(text if name in ALONE else name.replace("_", " ") + ("" if value is True else f" {text}"))
    return ", ".join(dict.fromkeys(said))


def weights_over_progress(seed: int, temperature: float | None = None) -> pd.DataFrame:
    """Return the mixture weights of one edge while alpha moves on a line: parametrisation, progress, operation, weight.

    `value` is "mean" or "sample". All parametrisations have the same alpha, from 0 to normal draws times 2, and the
    temperatures of the preset in `SHOWN`; progress is the share of the search, or of the stage that uses it. With a
    constant `temperature`, only those that depend on it.
    """
    rows, last = [], 2 * torch.randn(1, 6, 9, generator=generator(seed, "08 alpha"), dtype=torch.float64)
    for name in SHOWN if temperature is None else HAVE_TEMPERATURE:
        of = SHOWN[name]
        params = with_defaults(SearchParams, preset(of, {"space": "darts", "layers": 8}))
        stage = [plan for plan in stages_of(params) if plan.parametrisation == name][-1]
        relaxation = Relaxation(NASBENCH201, PARAMETRISATIONS[name])
        for i in range(EPOCHS_SHOWN):
            progress = i / (EPOCHS_SHOWN - 1)
            epoch = progress * (stage.epochs - 1)
            scheduled = value_at(stage.temperature, epoch, stage.epochs)  # type: ignore[arg-type]
            relaxation.temperature.fill_(scheduled if temperature is None else temperature)
            alpha = progress * last[..., : len(relaxation.columns)]
            draw = relaxation.draw(alpha, seed, "08 draw", i)
            found = {"mean": relaxation.mean(alpha)}
            if draw is not None:
                found["sample"] = relaxation(alpha, draw).weights
            for value, weights in found.items():
                for operation, weight in zip(NASBENCH201.operations, weights[0, EDGE].tolist(), strict=True):
                    row = {"parametrisation": name, "progress": progress, "operation": operation, "value": value}
                    rows.append(row | {"weight": weight})
    return pd.DataFrame(rows)


def short(name: str, changes: Mapping[str, Any]) -> Run:
    """Return the finished search `name` (a run folder) on digits: `SMALL` with `changes`; its checkpoint is kept."""
    run = Run.open(with_defaults(SearchParams, {**SMALL, **changes, "run": name}))
    with patch.dict(os.environ, HDARTS_PROGRESS="none"):  # one line per search is enough
        rows = list(s.search(run.params, run))  # type: ignore[arg-type]
    print(f"{name.rpartition('/')[2]}: {len(rows)} epochs, accuracy {rows[-1]['validation_accuracy']:.1f} %")
    return run


def small_preset(name: str) -> Row:
    """Return the parameters of a preset of NAS-Bench-201 in the size of `SMALL`."""
    return preset(name, SMALL)


def beta_decay_arms(weight: float) -> dict[str, Row]:
    """Return the arms that separate what beta decay does to alpha, as changes of a small search in NAS-Bench-201.

    At equal mixture weights the gradient of the term is weight / (edges x operations) for every operation. An epsilon
    of this size, without the term, divides Adam's step as the term does. SGD with the same factor has no denominator:
    with and without the term it shows what remains, the pull of the logits of an edge towards each other.
    """
    typical = weight / (len(NASBENCH201.edges) * len(NASBENCH201.operations))
    rate = SMALL["alpha_learning_rate"]
    base = {"space": "nasbench201", "method": "darts-first", "alpha_weight_decay": 0.0}
    term, sgd = {"outer_term": "beta-decay", "outer_weight": weight}, {"alpha_step": "sgd"}
    sgd["alpha_learning_rate"] = rate / typical  # type: ignore[assignment]
    arms = {"Adam": {}, "Adam, beta decay": term, "Adam, large epsilon": {"alpha_epsilon": typical}}
    arms |= {"SGD": sgd, "SGD, beta decay": sgd | term}
    return {name: base | changes for name, changes in arms.items()}


def moves(run: Run) -> dict[int, Tensor]:
    """Return for each epoch how far alpha has moved since the start, without what moves all operations of an edge."""
    start = s.alpha_at(run, 0)
    moved = {int(epoch): s.alpha_at(run, int(epoch)) - start for epoch in run.table("alpha")["epoch"].unique()}
    return {epoch: change - change.mean(-1, keepdim=True) for epoch, change in moved.items()}


def differences_of_logits(runs: Mapping[str, Run]) -> pd.DataFrame:
    """Return arm, epoch, and `spread`: the root mean square of `moves`, over edges and operations."""
    found = {arm: moves(run) for arm, run in runs.items()}
    return pd.DataFrame(
        [
            {"arm": arm, "epoch": epoch, "spread": change.square().mean().sqrt().item()}
            for arm, changes in found.items()
            for epoch, change in changes.items()
            if epoch
        ]
    )


def what_beta_decay_did(runs: Mapping[str, Run], reference: str) -> pd.DataFrame:
    """Return per arm at the end: spread, cosine of the moves to `reference`, Adam's denominator, and the gradient.

    `denominator`: sqrt of the second moment + epsilon, median; `gradient`: root mean square of the hypergradient per
    number of alpha, median over the steps; `accuracy`: search-validation accuracy, per cent.
    """
    rows = []
    for arm, run in runs.items():
        params, last = run.params, moves(run)[run.params.epochs]  # type: ignore[attr-defined]
        other = moves(runs[reference])[params.epochs]  # type: ignore[attr-defined]
        saved = checkpoint.read(run.folder / checkpoint.NEWEST)["adam"]["state"].get(0, {})
        norms = run.table("hypergradients")["total_cell"] / last.numel() ** 0.5
        row = {"arm": arm, "spread": last.square().mean().sqrt().item(), "gradient": norms.median()}
        row["cosine"] = torch.cosine_similarity(last.flatten(), other.flatten(), dim=0).item()
        if "exp_avg_sq" in saved:
            moment = saved["exp_avg_sq"] / (1 - params.alpha_beta2 ** float(saved["step"]))  # type: ignore[attr-defined]
            row["denominator"] = moment.sqrt().median().item() + params.alpha_epsilon  # type: ignore[attr-defined]
        rows.append(row | {"accuracy": run.table("metrics")["validation_accuracy"].iloc[-1]})
    return pd.DataFrame(rows)


def neighbourhoods(seed: int, sizes: Iterable[float], draws: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the inner loss of micro-DARTS over its simplex, at weights trained at one point p, and points near p.

    First table: the shares of the three operations and `loss`. Second: the same, with size and `point` (current |
    uniform | adversarial); each of `draws` starts has both.
    """
    toy, p = MicroDARTS(1e-2), torch.tensor([0.45, 0.35, 0.2], dtype=torch.float64)
    w = toy.best_response(p.log())
    outputs, y = (tensor[0] for tensor in toy.data)

    def loss(q: Tensor) -> Tensor:
        x = torch.einsum("o,onp->np", q, outputs)
        return (x @ w.view(64, 10) - y).square().sum() / (2 * len(x))

    def at(q: Tensor) -> Row:
        return {**dict(zip(OPERATIONS, q.tolist(), strict=True)), "loss": float(loss(q))}

    field = pd.DataFrame([at(q) for q in simplex(24, 0.0).exp()])
    rows, source = [], generator(seed, "08 neighbourhood")
    for size in map(torch.tensor, sizes):
        rows.append({"size": float(size), "point": "current", **at(p)})
        for _ in range(draws):
            draw = 2 * torch.rand(3, generator=source, dtype=torch.float64) - 1
            near = {"uniform": uniform(p, size, draw), "adversarial": adversarial(p, size, draw, loss, 7)}
            rows += [{"size": float(size), "point": name, **at(q)} for name, q in near.items()]
    return field, pd.DataFrame(rows)


def removals(run: Run) -> pd.DataFrame:
    """Return for each edge and operation of a finished search its mixture weight, and the accuracy lost without it.

    Columns: edge (index), operation, weight, `lost`: points of search-validation accuracy that the supernet loses when
    this weight is 0 and the others are as they were (Wang et al., DARTS-PT, ICLR 2021). First kind of cell.
    """
    params = run.params
    assert isinstance(params, SearchParams)
    data, device = s.load_splits(params, torch.device("cpu")), torch.device("cpu")
    problem, state = resumed(params, checkpoint.read(run.folder / checkpoint.NEWEST), data, device)
    weights, names = state.mean_weights(), state.space.operations
    places = [(edge, o) for edge in range(len(state.space.edges)) for o in range(len(names))]
    with patch.dict(os.environ, HDARTS_PROGRESS="none"):
        whole, *found = Ablation(params, problem, data, state).accuracies(0, [(0, []), *places])
    return pd.DataFrame(
        [
            {"edge": edge, "operation": names[o], "weight": float(weights[0, edge, o]), "lost": whole - left}
            for (edge, o), left in zip(places, found, strict=True)
        ]
    )


def candidates_by_stage(run: Run) -> pd.DataFrame:
    """Return stage, edge (index), operation and mixture weight at the end of each stage; nan: pruned. First kind."""
    params = run.params
    assert isinstance(params, SearchParams)
    space, rows = SPACES[params.space], []
    for plan in stages_of(params):
        weights, pruned = s.weights_at(run, plan.end)[0], s.alpha_at(run, plan.end)[0].isinf()
        for edge in range(len(space.edges)):
            for o, operation in enumerate(space.operations):
                weight = float("nan") if pruned[edge, o] else float(weights[edge, o])
                rows.append({"stage": plan.number + 1, "edge": edge, "operation": operation, "weight": weight})
    return pd.DataFrame(rows)


def epochs_of(runs: Mapping[str, Run]) -> pd.DataFrame:
    """Return the metrics of searches, epoch by epoch: method and the columns of metrics.csv."""
    return pd.concat([run.table("metrics").assign(method=name) for name, run in runs.items()], ignore_index=True)

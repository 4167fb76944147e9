"""Made-up tables, and every plotting function that draws a table, called with them."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text

from hdarts import plots
from hdarts.space import DARTS, NASBENCH201, Genotype
from hdarts.workbook.analysis.selection import select

EPOCHS = np.arange(1, 13)
ARMS = ("darts-second", "hyperdarts-1", "hyperdarts-2", "random")
SEEDS = (2, 20, 200)
METHODS = ("first order", "hypernetwork", "half the reference")
OPERATIONS = ("identity", "average pool", "max pool")
ALPHA = np.random.default_rng(0).dirichlet(np.ones(8), size=(2, 14))
NOTHING = pd.DataFrame()


def table(columns: str, rows: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns.split())


METRICS = table(
    "epoch train_loss train_accuracy validation_loss validation_accuracy",
    [(e, 2 / e, 90 - 50 / e, 2.2 / e, 85 - 50 / e) for e in EPOCHS],
)
HYPERGRADIENTS = table(
    "step direct_normal direct_reduce response_normal response_reduce",
    [(10 * e, 0.02 / e, 0.01 / e, 0.002 / e, 0.0) for e in EPOCHS],
)
CURVES = pd.DataFrame(
    {
        "arm": arm,
        "seed": seed,
        "epoch": epoch,
        "setting": f"{0.025 * (1 + i):g}, 48",
        "learning_rate": 0.1 / (epoch + i),
        "validation_accuracy": 80 + i - 40 / epoch + seed / 20,
        "skips_normal": epoch // 4,
        "discretised_accuracy": 60 + i - 30 / epoch if epoch % 2 else float("nan"),
        "eigenvalue": 0.1 * epoch + i / 10 - seed / 100,
        "entropy_normal": 2.08 - 0.01 * epoch - seed / 1000,
        "entropy_reduce": 2.08 - 0.005 * epoch,
    }
    for i, arm in enumerate(ARMS)
    for seed in SEEDS[:2]
    for epoch in EPOCHS
)
STEPS = table(
    "arm seed step direct response",
    [
        (arm, seed, 10 * e, 0.1 / e, i * 0.01 / e)
        for i, arm in enumerate(("darts-first", "hyperdarts-1"))
        for seed in SEEDS[:2]
        for e in EPOCHS
    ],
)
SIZES = pd.DataFrame(
    {
        "arm": ["hyperdarts-1", "hyperdarts-2", "random", "random"],
        "last_test_accuracy": [97.0, 96.0, 96.5, 95.0],
        "parameters": [3.3e6, 3.1e6, 2.9e6, 2.8e6],
        "multiply_adds": [528e6, 500e6, 510e6, 470e6],
    }
)
RUNS = table(
    "arm evaluation_seed validation_accuracy last_test_accuracy seconds",
    [(a, s, 80.0 + i + s, 96.0 + i / 10 + s / 20, 600.0 * (i + 1) + s) for i, a in enumerate(ARMS) for s in range(3)],
)
COSTS = table(
    "panel model accuracy deviation cost unit",
    [("thesis: CIFAR-10", model, 97.2, sd, 2.0, "GPU days") for model, sd in (("DARTS", 0.1), ("SNAS", None))]
    + [("here: digits", arm, 96.0 + i, None if i else 0.5, 3.0 * i, "min") for i, arm in enumerate(ARMS)],
)
GRID = table(
    "learning_rate batch_size seed validation_accuracy",
    [(r, n, s, 60 + 90 * r - n / 9 + s) for r in (0.025, 0.05, 0.1) for n in (16, 32, 64) for s in (0, 1)],
)
MEMORY = pd.DataFrame({"embedding": [8, 32, 32, 128], "peak_memory_mib": [600.0, 800, 820, 2000]})
SEARCHES = pd.concat(  # concatenated like tables of runs: each keeps its index
    table("run epoch validation_accuracy", [(f"s/search/s{s}", e, 80 + s / 100 - 9 / e) for e in EPOCHS]) for s in SEEDS
)
TRUTH = table(
    "arm seed epoch seconds skips cifar10_test relative_error",
    [
        (arm, s, e, e * 9.0 + s / 9, min(e, 6), 92 - 3.5 * e * (i == 0) + s / 1e3, 0.5 + i + s / 1e3)
        for i, arm in enumerate(("darts-second", "hyperdarts-centred", "random"))
        for s in SEEDS
        for e in ([0] if arm == "random" else range(1, 11))
    ],
)
SNAPSHOTS = table(
    "arm epoch method part cosine relative_error gradients",
    [
        (arm, e, m, p, np.nan if (i, p) == (0, "response") else 0.9 - 0.3 * i + 0.01 * e, 0.2 + 0.5 * i, 1 + 6 * i)
        for arm in ("darts-second", "hyperdarts-2")
        for e in (2, 6)
        for i, m in enumerate(METHODS)
        for p in ("total", "direct", "response")
    ],
)
CLASSES = table("class images predicted correct accuracy", [(f"c{k}", 50, 50, 48 - k, 96 - 2 * k) for k in range(25)])
CONFUSION = table(
    "class predicted images",
    [(f"c{k}", f"c{(k + d) % 25}", n) for k in range(25) for d, n in ((0, 48 - k), (1, 2 + k))],
)
CALIBRATION = table(
    "from to images confidence accuracy",
    [(10 * b, 10 * b + 10, b, 10 * b + 5 if b else None, 8 * b) for b in range(10)],
)
METHOD_ERRORS = SNAPSHOTS.query("arm == 'darts-second'")
EDGES = table(
    "method kind edge relative_error",
    [(m, k, f"{a}-{b}", 0.1 * (i + 1) * b) for i, m in enumerate(METHODS) for k in DARTS.kinds for a, b in DARTS.edges],
)
STEP_MAGNITUDES = table(
    "model batch_size step edge drawn",
    [(m, n, t, n / 1000 / (1 + t), t in (1, 4, 5)) for m, n in (("linear", 48), ("MLP", 64)) for t in range(8)],
)
BATCHES = table("batch_size edge mean", [(n, (1 + i) / n, (2 + i) / n) for n in (16, 32, 64) for i in range(3)])
LINES = table(
    "K error method toy",
    [
        (k, 1 / (k + i) - 0.1, method, toy)
        for i, method in enumerate(("predicted", "neumann", "unrolled"))
        for toy in ("sine", "ridge")
        for k in (1, 2, 20)
    ],
)
SLOPE = table("alpha w inner best_response outer", [(a, w, (w + a) ** 2, -a, a**2) for a in EPOCHS for w in EPOCHS])
PARTS = table("problem operation direct response total", [(p, o, 1.0, -3.0, -2.0) for p in "ab" for o in OPERATIONS])
NEUMANN = table("share K x y", [(s, k, 1 - k * s, 0.5 * k) for s in (0.2, 1.0) for k in range(4)])
CHORDS = table(
    "sigma line alpha weight", [(s, n, a, a * s) for s in (0.1, 0.5) for n in ("w*", "chord") for a in (0, 1)]
)
RESPONSES = table(
    "kind mean spread alpha inner outer",
    [
        (kind, mean, spread, a, 1.0, 2.0)
        for kind, mean, spread in (("global, MLP", 0.0, 2.0), ("local, linear", 1.0, 0.2), ("retrained", 0.0, 2.0))
        for a in np.linspace(-4, 4, 17)
    ],
)
JOINT_RUNS = table("loss way part problem", [(0, "a", "x", "p"), (1, "a", "y", "p"), (2, "b", "x", "p")])
SHARES = pd.DataFrame(np.random.default_rng(0).dirichlet(np.ones(3), 40), columns=list(OPERATIONS))
FIELD = SHARES.assign(loss=SHARES["identity"], ratio=SHARES["max pool"] * 4)
PATHS = SHARES.head(4).assign(part="total", way="a", seed=0)
NEAR = SHARES.head(6).assign(size=[0.1, 0.1, 0.1, 0.3, 0.3, 0.3], point=2 * ["current", "uniform", "adversarial"])
PROGRESS = table(
    "parametrisation progress operation weight value",
    [
        (p, t, o, 0.2 + t / 9, v)
        for p in "ab"
        for t in (0, 1)
        for o in NASBENCH201.operations
        for v in ("mean", "sample")
    ],
)
REMOVALS = table(
    "edge operation weight lost",
    [(e, o, 0.1 * e, e - i) for e in range(6) for i, o in enumerate(NASBENCH201.operations)],
)
CANDIDATES = pd.concat(
    REMOVALS.assign(stage=n, weight=REMOVALS["weight"].where(REMOVALS["lost"] > n - 4)) for n in (1, 2)
)
RANKINGS = table(
    "source of tau low high",
    [(s, of, 0.2 * i, 0.2 * i - 0.3, 0.2 * i + 0.3) for i, s in enumerate("abc") for of in ("truth", "own optimum")],
)
FIDELITY = table(
    "predictor size epoch tau low high flops",
    [
        ("trained", f"{n},000 images", e, 0.1 * e - 0.4 / n, 0.1 * e - 0.6, 0.1 * e + 0.1, 1e13 * n * e)
        for n in (5, 20)
        for e in range(1, 9)
    ]
    + [("extrapolated", f"{n},000 images", 4, 0.5, 0.3, 0.7, 4e13 * n) for n in (5, 20)]
    + [("shared weights", f"seed {s}", np.nan, 0.2 + s / 1e3, 0.0, 0.5, 6e13) for s in SEEDS],
)
PAIRED = table(
    "measure arm against seed difference",
    [("true test accuracy", arm, "a", SEEDS[d], d + i) for i, arm in enumerate("bc") for d in range(3)],
)
DIFFERENCES = table(
    "measure arm against n difference low high shows_from",
    [("true test accuracy", arm, "a", 3, 1.0 + i, -1.5 + i, 3.5 + i, 3.3) for i, arm in enumerate("bc")],
)
PLANE = table("a b loss", [(a, b, a**2 + (b - 1) ** 2) for a in range(-2, 3) for b in range(-2, 3)])
PLANE_PATHS = table("a b search", [(0, 2, "x"), (1, 1, "x"), (2, 0, "y")])
PAIRS = [("sep_conv_3x3", 0), ("skip_connect", 1), ("dil_conv_5x5", 2), ("max_pool_3x3", 0)] * 2
CELL = Genotype(normal=PAIRS, reduce=PAIRS)


def selected(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Return the selection among SEARCHES, as if of `seeds`: the third has no skip connection, the second is best."""
    skips, none = ([(operation, 0), (operation, 1)] * 4 for operation in ("skip_connect", "sep_conv_3x3"))
    cells = [Genotype(normal=normal, reduce=none) for normal in (skips, skips, none)]
    runs = [f"s/search/s{seed}" for seed in SEEDS]
    return select([(run, cell, 80 + i, seeds[i]) for i, (run, cell) in enumerate(zip(runs, cells, strict=True))]).table


# name: (table, function of the table)
TABLES: dict[str, tuple[pd.DataFrame, Callable[[pd.DataFrame], Figure]]] = {
    "learning_curves": (METRICS, plots.learning_curves),
    "search_panel": (METRICS, lambda t: plots.search_panel(t, HYPERGRADIENTS, ALPHA, DARTS)),
    "validation_curves": (CURVES, plots.validation_curves),
    "skips_over_epochs": (CURVES, plots.skips_over_epochs),
    "entropy_over_epochs": (CURVES, plots.entropy_over_epochs),
    "discretisation_gap": (CURVES, plots.discretisation_gap),
    "eigenvalue_over_epochs": (CURVES, plots.eigenvalue_over_epochs),
    "selection_curves": (SEARCHES, lambda t: plots.selection_curves(t, selected())),
    "hypergradient_parts": (STEPS, plots.hypergradient_parts),
    "hypergradient_magnitudes": (STEPS, plots.hypergradient_magnitudes),
    "sweep_curves": (CURVES, lambda t: plots.sweep_curves(t, "learning rate, batch size")),
    "sweep_map": (GRID, lambda t: plots.sweep_map(t, "learning_rate", "batch_size")),
    "sweep_memory": (MEMORY, lambda t: plots.sweep_memory(t, "embedding")),
    "schedules": (CURVES, plots.schedules),
    "class_results": (CLASSES, lambda t: plots.class_results(t, CONFUSION, CALIBRATION)),
    "accuracy_and_cost": (COSTS, plots.accuracy_and_cost),
    "strip": (RUNS, lambda t: plots.strip(t, "arm", "last_test_accuracy", {"thesis": 97.3, "random average": 96.2})),
    "accuracy_over_size": (SIZES, lambda frame: plots.accuracy_over_size(frame, "last_test_accuracy")),
    "validation_against_test": (RUNS, plots.validation_against_test),
    "seconds_by_arm": (RUNS, plots.seconds_by_arm),
    "truth_over_time": (TRUTH, lambda t: plots.truth_over_time(t, {"best cell": 94.37, "mean of all cells": 87.06})),
    "truth_over_flops": (TRUTH.query("epoch == 10").assign(flops=2e13), plots.truth_over_flops),
    "error_against_truth": (TRUTH.query("epoch == 10"), plots.error_against_truth),
    "method_agreement": (METHOD_ERRORS, lambda t: plots.method_agreement(t, grey=METHODS[2:])),
    "agreement_by_arm": (SNAPSHOTS, lambda t: plots.agreement_by_arm(t, grey=METHODS[2:])),
    "edge_agreement": (EDGES, lambda t: plots.edge_agreement(t, DARTS)),
    "batch_magnitudes": (STEP_MAGNITUDES, lambda t: plots.batch_magnitudes(t, BATCHES)),
    "lines": (LINES, lambda t: plots.lines(t, "K", "error", "method", facet="toy")),
    "hypergradient_slope": (SLOPE, lambda t: plots.hypergradient_slope(t, 5, -5, {"hypergradient": 1.0, "flat": 0.0})),
    "hypergradient_bars": (PARTS, plots.hypergradient_bars),
    "weights_over_progress": (PROGRESS, plots.weights_over_progress),
    "neighbourhood_points": (NEAR, lambda t: plots.neighbourhood_points(FIELD, t, OPERATIONS)),
    "removal_maps": (REMOVALS, lambda t: plots.removal_maps(t, NASBENCH201)),
    "candidates_by_stage": (CANDIDATES, lambda t: plots.candidates_by_stage(t, NASBENCH201)),
    "neumann_path": (NEUMANN, lambda t: plots.neumann_path(t, ("x", "y"), (0.0, 1.0))),
    "chords": (CHORDS, lambda t: plots.chords(t, 0.5)),
    "best_responses": (RESPONSES, plots.best_responses),
    "grouped_strips": (JOINT_RUNS, lambda t: plots.grouped_strips(t, "loss", "way", "part", "problem", {"p": 0.5})),
    "simplex_maps": (FIELD, lambda t: plots.simplex_maps(t, OPERATIONS, {"1st": ("ratio", 1.0), "2nd": ("loss", 0.0)})),
    "simplex_paths": (FIELD, lambda t: plots.simplex_paths(t, "loss", PATHS, OPERATIONS, "part", "way")),
    "rank_intervals": (RANKINGS, plots.rank_intervals),
    "tau_over_flops": (FIDELITY, plots.tau_over_flops),
    "differences": (DIFFERENCES, lambda t: plots.differences(t, PAIRED)),
    "plane_paths": (PLANE, lambda t: plots.plane_paths(t, "loss", PLANE_PATHS, ("a", "b"), "search")),
}


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text() and text.get_visible()]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in texts(figure)]

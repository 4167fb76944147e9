"""Could this study have seen a difference? Three checks of the instrument, printed before any result.

- decided: on how many edges a search had made up its mind when it ended. Cells of searches that had not are arbitrary.
- positive control: a pair of arms whose order is known. Where it does not show, other null results mean nothing.
- power: the smallest difference that so many seeds would have shown (`statistics.smallest_difference`).
"""

from collections import Counter
from collections.abc import Iterator
from math import nan
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from hdarts.params import SearchParams, read_yaml, recorded
from hdarts.runs.paths import below_runs
from hdarts.runs.run import Run, read_result
from hdarts.search import weights_at
from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.runs import primary_comparisons, search_labels
from hdarts.workbook.analysis.statistics import paired_test, smallest_difference
from hdarts.workbook.analysis.truth import paired_accuracies

FLAT = 0.99  # of the entropy of equal weights
BUDGET = ("epochs", "batch_size", "limit", "image_size", "channels", "layers")
ENOUGH = 0.5  # share of the edges that the searches of an arm have to decide


def decided_share(weights: list[Tensor]) -> float:
    """Return the share of edges that a search had decided, from its mixture weights after each epoch.

    An edge is decided if over the last third of the epochs its strongest operation stayed the same, and if at the end
    that operation leads the second by more than its weight moved in that time.
    """
    last = torch.stack(weights[-max(2, -(-len(weights) // 3)) :])  # (epochs, kinds, edges, operations)
    best = last.argmax(-1)
    same = (best == best[-1]).all(0)
    top = last[-1].topk(2, -1)
    of_best = last.gather(-1, best[-1].expand(len(last), *best[-1].shape)[..., None])[..., 0]
    moved = of_best.max(0).values - of_best.min(0).values
    return float((same & (top.values[..., 0] - top.values[..., 1] > moved)).double().mean())


def entropy_share(weights: Tensor) -> float:
    """Return the entropy of mixture weights, mean over edges, as a share of that of equal weights of the candidates."""
    rows = weights.double() / weights.double().sum(-1, keepdim=True)
    most = (rows > 0).sum(-1).double().log()
    used = most > 0  # an edge with one candidate has no entropy
    return float((torch.special.entr(rows).sum(-1)[used] / most[used]).mean()) if bool(used.any()) else 0.0


def _searches(study: str) -> Iterator[tuple[str, Row, SearchParams]]:
    """Yield run, labels and parameters of each search that has begun."""
    for run, labels in search_labels(study).items():
        if (file := below_runs(run) / "params.yaml").is_file():
            yield run, labels, recorded(SearchParams, read_yaml(file))


def decisions(study: str) -> pd.DataFrame:
    """Return one row per finished search that steps alpha: run, arm, seed, the share `decided` of edges, `entropy`."""
    rows = []
    for run, labels, params in _searches(study):
        folder = below_runs(run)
        steps_alpha = params.method != "random" and not params.candidates and (folder / "alpha.csv").is_file()
        if read_result(folder) is None or not steps_alpha:
            continue
        opened = Run(folder, params)
        epochs = sorted(opened.table("alpha")["epoch"].unique().tolist())
        share = decided_share([weights_at(opened, epoch) for epoch in epochs[1:]]) if len(epochs) > 2 else nan
        row = {"run": run, "arm": labels["arm"], "seed": labels["seed"], "decided": share}
        rows.append(row | {"entropy": entropy_share(weights_at(opened))})
    return pd.DataFrame(rows)


def decided_by_arm(study: str) -> pd.DataFrame:
    """Return one row per arm: searches, smallest and median share of decided edges, entropy, whether that is enough."""
    table = decisions(study)
    if table.empty:
        return table
    arms = table.groupby("arm", sort=False)
    groups = arms["decided"]
    found = pd.DataFrame({"searches": groups.size(), "decided_least": groups.min(), "decided_median": groups.median()})
    found = found.assign(entropy_median=arms["entropy"].median())
    return found.assign(enough=found["decided_median"] >= ENOUGH).reset_index()


def decided_note(table: pd.DataFrame) -> str:
    """Return a sentence on the arms whose cells mean something, for a table of `decided_by_arm`."""
    if table.empty:
        return "No search of this study steps alpha."
    flat = table.loc[table["entropy_median"] > FLAT, "arm"].tolist()
    entropy = f" Mixture weights that are still nearly equal at the end (entropy above {FLAT:.0%} of the largest): "
    entropy += f"{', '.join(flat)}; there a cell rests on small differences." if flat else "none."
    short = table.loc[~table["enough"], "arm"].tolist()
    if not short:
        return f"Every arm decided at least {ENOUGH:.0%} of its edges (median over its searches).{entropy}"
    return (
        f"Searches that decided fewer than {ENOUGH:.0%} of their edges (median): {', '.join(short)}. "
        f"Claims about their cells are not decidable here.{entropy}"
    )


def positive_control(study: str) -> str:
    """Return a sentence on the known difference of a study: whether it shows, or that there is none.

    It is the primary comparison that the study marks as known. Otherwise a pair of arms that differ in beta decay only,
    which finds better cells of NAS-Bench-201 than plain first-order DARTS (Ye et al., CVPR 2022).
    """
    pair = next((c.arms for c in primary_comparisons(study) if c.known), None) or _known_pair(study)
    if pair is None:
        return "Positive control: none (no pair of arms whose order is known), so a null result here proves nothing."
    table = paired_accuracies(study, *pair)
    if table.empty:
        return f"Positive control: no seed has both {pair[0]} and {pair[1]} yet."
    differences = table[pair[0]] - table[pair[1]]
    text = f"Positive control, {pair[0]} minus {pair[1]}: {differences.mean():+.2f} points of true accuracy"
    text += f" ({', '.join(f'{d:+.2f}' for d in differences)}; {len(differences)} seeds)"
    if len(differences) < 2:
        return f"{text}. One seed is an example, not a test."
    test = paired_test(table[pair[0]], table[pair[1]])
    shown = test.difference > 0 and (test.p <= 0.05 or bool((differences > 0).all()))
    verdict = "the known order shows" if shown else "the known order does NOT show: null results here mean nothing"
    return f"{text}, p = {test.p:.3g}; {verdict}. {power_note(differences.tolist())}"


def unequal_budgets(study: str) -> str:
    """Return a sentence that names the arms whose searches had another budget than most, or ""."""
    budgets: dict[str, dict[str, Any]] = {}
    for _, labels, params in _searches(study):
        if params.method != "random":
            budget = {name.replace("_", " "): getattr(params, name) for name in BUDGET}
            budgets.setdefault(labels["arm"], budget | {"epochs": params.all_epochs})
    usual = {
        name: Counter(b[name] for b in budgets.values()).most_common(1)[0][0]
        for name in next(iter(budgets.values()), {})
    }
    different = {
        arm: ", ".join(f"{name} {budget[name]}" for name in usual if budget[name] != usual[name])
        for arm, budget in budgets.items()
    }
    others = "; ".join(f"{arm} ({what})" for arm, what in different.items() if what)
    most = ", ".join(f"{name} {value}" for name, value in usual.items())
    return f"Arms with another budget than most ({most}): {others}." if others else ""


def power_note(differences: list[float]) -> str:
    """Return a sentence with the smallest difference that so many seeds with their spread would have shown."""
    found = smallest_difference(differences)
    return f"{len(differences)} seeds with this spread show differences from {found:.2f} points on (80 % power)."


def _known_pair(study: str) -> tuple[str, str] | None:
    """Return the arms (beta decay, plain DARTS) of a study, which differ in the outer term only, or None."""
    plain, decayed = {}, {}
    for _, labels, params in _searches(study):
        if params.method == "darts-first" and params.space == "nasbench201":
            others = params.identifying(params.model_dump()).items()
            same = str([(k, v) for k, v in others if k != "search_seed" and not k.startswith("outer_")])
            {"none": plain, "beta-decay": decayed}.get(params.outer_term, {}).setdefault(same, labels["arm"])
    return next(((arm, plain[same]) for same, arm in decayed.items() if same in plain), None)

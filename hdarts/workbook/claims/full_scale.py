"""What it would take to decide a claim on cells of the DARTS space at full scale, from the thesis's numbers."""

import math
from statistics import stdev

from hdarts.workbook.analysis.statistics import pairs_needed
from hdarts.workbook.claims.thesis import table

EVALUATION_HOURS = 36  # the thesis's line 716: a training takes about 1.5 GPU days
# its experiment that searched a model's cells (table "costs"), and its table of their test accuracies
SOURCES = {"darts-second": ("DARTS", 3), "hyperdarts-1": ("1.3", 13), "hyperdarts-2": ("2.2", 21)}


def price_at_full_scale(arms: tuple[str, str], data: str, stated: float) -> str:
    """Return how many search seeds, and GPU hours, a difference of the `stated` points needs; each cell trained once.

    At least: the deviation is that of repeated trainings of one cell, and that of cells comes in addition. Without a
    stated difference, as many as an exact test needs. Random cells (no search) count with the deviation of DARTS's.
    """
    sources = [SOURCES.get(arm.removesuffix("-response"), SOURCES["darts-second"]) for arm in arms]
    deviations = [stdev(table(number)[data].dropna()) for _, number in sources]
    spread = math.hypot(*deviations)
    size = 1e9 if math.isinf(stated) else stated
    pairs = pairs_needed([-spread / math.sqrt(2), spread / math.sqrt(2)], size)  # two values of this deviation
    costs = table("costs").set_index("experiment")
    searching = sum(
        costs.loc[name, "hours"] / costs.loc[name, "runs"] for (name, _), arm in zip(sources, arms, strict=True)
        if arm != "random"
    )  # fmt: skip
    difference = "A difference of unknown size" if math.isinf(stated) else f"The stated {stated:.3g}"
    if pairs is None:
        return f"{difference} would need more than 100,000 seeds at full scale."
    hours = pairs * (searching + 2 * EVALUATION_HOURS)
    return (
        f"{difference} needs at least {pairs:,} search seeds at full scale: about {hours:,.0f} GPU hours (deviation "
        f"{spread:.2g} points of repeated trainings; that of cells comes in addition). The affordable instrument is "
        "NAS-Bench-201, where cells have true accuracies."
    )

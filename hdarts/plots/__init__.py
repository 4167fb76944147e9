"""Figures: tables in, matplotlib figures out, in one style and without pyplot's global state.

A figure is saved with `picture` (or `Run.save_figure`) and shown in a notebook by `display`.
"""

from hdarts.plots.cells import draw_cell, draw_genotype
from hdarts.plots.gallery import Gallery
from hdarts.plots.lines import lines
from hdarts.plots.search import alpha_heatmap, hypergradient_norms, learning_curves, search_panel
from hdarts.plots.study import (
    entropy_over_epochs,
    hypergradient_comparison,
    hypergradient_parts,
    seconds_by_arm,
    skips_over_epochs,
    strip,
    validation_against_test,
    validation_curves,
)
from hdarts.plots.style import picture, style

__all__ = [
    "Gallery",
    "alpha_heatmap",
    "draw_cell",
    "draw_genotype",
    "entropy_over_epochs",
    "hypergradient_comparison",
    "hypergradient_norms",
    "hypergradient_parts",
    "learning_curves",
    "lines",
    "picture",
    "search_panel",
    "seconds_by_arm",
    "skips_over_epochs",
    "strip",
    "style",
    "validation_against_test",
    "validation_curves",
]

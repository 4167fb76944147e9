"""Figures: tables in, matplotlib figures out, in one style and without pyplot's global state.

A figure is saved in a run folder with `save` (or a `Gallery`, with its caption) and shown in a notebook by `display`.
"""

from hdarts.plots.architecture import draw_cell_shapes, draw_network
from hdarts.plots.benchmark import error_against_truth, truth_over_time
from hdarts.plots.cells import draw_genotype
from hdarts.plots.comparison import accuracy_and_cost
from hdarts.plots.gallery import Gallery, save
from hdarts.plots.lines import lines
from hdarts.plots.methods import draw_hypernetworks, draw_method
from hdarts.plots.microscope import agreement_by_arm, batch_magnitudes, edge_agreement, method_agreement
from hdarts.plots.relaxation import draw_cell_search
from hdarts.plots.search import learning_curves, search_panel
from hdarts.plots.settings import memory_over_setting, schedules, setting_curves, setting_map
from hdarts.plots.sliders import approach, chords, slide
from hdarts.plots.study import (
    eigenvalue_over_epochs,
    entropy_over_epochs,
    hypergradient_magnitudes,
    hypergradient_parts,
    optimisation_gap,
    seconds_by_arm,
    selection_curves,
    skips_over_epochs,
    strip,
    validation_against_test,
    validation_curves,
)
from hdarts.plots.style import picture, style
from hdarts.plots.toys import best_responses, dots, matrices, parts, plane_paths, simplex_maps, simplex_paths, slopes

__all__ = [
    "Gallery",
    "accuracy_and_cost",
    "agreement_by_arm",
    "approach",
    "batch_magnitudes",
    "best_responses",
    "chords",
    "dots",
    "draw_cell_search",
    "draw_cell_shapes",
    "draw_genotype",
    "draw_hypernetworks",
    "draw_method",
    "draw_network",
    "edge_agreement",
    "eigenvalue_over_epochs",
    "entropy_over_epochs",
    "error_against_truth",
    "hypergradient_magnitudes",
    "hypergradient_parts",
    "learning_curves",
    "lines",
    "matrices",
    "memory_over_setting",
    "method_agreement",
    "optimisation_gap",
    "parts",
    "picture",
    "plane_paths",
    "save",
    "schedules",
    "search_panel",
    "seconds_by_arm",
    "selection_curves",
    "setting_curves",
    "setting_map",
    "simplex_maps",
    "simplex_paths",
    "skips_over_epochs",
    "slide",
    "slopes",
    "strip",
    "style",
    "truth_over_time",
    "validation_against_test",
    "validation_curves",
]

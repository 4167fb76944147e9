"""Figures: tables in, matplotlib figures out, in one style and without pyplot's global state.

A figure is saved in a run folder with `save` (or a `Gallery`, with its caption) and shown in a notebook by `display`.
"""

from hdarts.plots.architecture import draw_cell_shapes, draw_network
from hdarts.plots.arms import accuracy_and_cost, seconds_by_arm, strip, validation_against_test
from hdarts.plots.cells import draw_genotype
from hdarts.plots.classes import class_results
from hdarts.plots.curves import (
    discretisation_gap,
    eigenvalue_over_epochs,
    entropy_over_epochs,
    hypergradient_magnitudes,
    hypergradient_parts,
    selection_curves,
    skips_over_epochs,
    validation_curves,
)
from hdarts.plots.diagnostics import agreement_by_arm, batch_magnitudes, edge_agreement, method_agreement
from hdarts.plots.fidelity import tau_over_flops
from hdarts.plots.gallery import Gallery, save
from hdarts.plots.intervals import differences, rank_intervals
from hdarts.plots.lines import lines
from hdarts.plots.methods import draw_hypernetworks, draw_method
from hdarts.plots.pareto import accuracy_over_size
from hdarts.plots.relatives import candidates_by_stage, neighbourhood_points, removal_maps, weights_over_progress
from hdarts.plots.relaxation import draw_cell_search
from hdarts.plots.search import learning_curves, search_panel
from hdarts.plots.simplex import plane_paths, simplex_maps, simplex_paths
from hdarts.plots.sliders import slide
from hdarts.plots.step import edge_maps, weight_change_map
from hdarts.plots.style import render, style
from hdarts.plots.sweeps import schedules, sweep_curves, sweep_map, sweep_memory
from hdarts.plots.toys import (
    best_responses,
    chords,
    grouped_strips,
    hypergradient_bars,
    hypergradient_slope,
    matrices,
    neumann_path,
)
from hdarts.plots.truth import error_against_truth, truth_over_flops, truth_over_time

# fmt: off
__all__ = [
    "Gallery", "accuracy_and_cost", "accuracy_over_size", "agreement_by_arm", "batch_magnitudes", "best_responses",
    "candidates_by_stage", "chords", "class_results", "differences", "discretisation_gap", "draw_cell_search",
    "draw_cell_shapes", "draw_genotype", "draw_hypernetworks", "draw_method", "draw_network", "edge_agreement",
    "edge_maps", "eigenvalue_over_epochs", "entropy_over_epochs", "error_against_truth", "grouped_strips",
    "hypergradient_bars", "hypergradient_magnitudes", "hypergradient_parts", "hypergradient_slope",
    "learning_curves", "lines", "matrices", "method_agreement", "neighbourhood_points", "neumann_path",
    "plane_paths", "rank_intervals", "removal_maps", "render", "save", "schedules", "search_panel",
    "seconds_by_arm", "selection_curves", "simplex_maps", "simplex_paths", "skips_over_epochs", "slide", "strip",
    "style", "sweep_curves", "sweep_map", "sweep_memory", "tau_over_flops", "truth_over_flops", "truth_over_time",
    "validation_against_test", "validation_curves", "weight_change_map", "weights_over_progress",
]

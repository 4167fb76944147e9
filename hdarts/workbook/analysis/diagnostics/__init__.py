"""Diagnostics of notebook 04: hypergradients of a real supernet at the checkpoints of a search.

`snapshots` reads the states of a search after its epochs; `compare_methods` computes the hypergradient of one by every
method and by the references; `sharpness` gives both ends of the Hessian's spectrum, `epsilon_errors` the error of
finite differences over epsilon, `as_in_thesis` and `by_batch_size` the thesis's figure 32.
"""

from hdarts.workbook.analysis.diagnostics.agreement import edge_table, method_table, part_table, second_opinions
from hdarts.workbook.analysis.diagnostics.batch_size import as_in_thesis, by_batch_size
from hdarts.workbook.analysis.diagnostics.curvature import extreme_eigenvalues, sharpness
from hdarts.workbook.analysis.diagnostics.kinks import LAW, SmoothActivations, epsilon_errors, square_root_law
from hdarts.workbook.analysis.diagnostics.methods import EPSILON, REFERENCES, Comparison, Estimate, compare_methods
from hdarts.workbook.analysis.diagnostics.sentences import (
    describe_batch_size,
    describe_kinks,
    describe_methods,
    describe_sharpness,
    result_numbers,
)
from hdarts.workbook.analysis.diagnostics.snapshot import Snapshot, read_search, short_search, snapshots

__all__ = [
    "EPSILON",
    "LAW",
    "REFERENCES",
    "Comparison",
    "Estimate",
    "SmoothActivations",
    "Snapshot",
    "as_in_thesis",
    "by_batch_size",
    "compare_methods",
    "describe_batch_size",
    "describe_kinks",
    "describe_methods",
    "describe_sharpness",
    "edge_table",
    "epsilon_errors",
    "extreme_eigenvalues",
    "method_table",
    "part_table",
    "read_search",
    "result_numbers",
    "second_opinions",
    "sharpness",
    "short_search",
    "snapshots",
    "square_root_law",
]

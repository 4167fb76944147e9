"""The microscope of notebook 04: hypergradients of a real supernet, measured at the checkpoints of a search.

`snapshots` takes a search as it was after an epoch; `look` finds its hypergradient by every method and by the
references; `sharpness` has the ends of the Hessian's spectrum, `kinks` the error of finite differences over epsilon,
`batch_size` the thesis's figure 32.
"""

from hdarts.workbook.analysis.diagnostics.batch_size import as_reported, varied
from hdarts.workbook.analysis.diagnostics.curvature import extreme_eigenvalues, sharpness
from hdarts.workbook.analysis.diagnostics.kinks import LAW, SmoothStandIn, epsilon_errors, square_root_law
from hdarts.workbook.analysis.diagnostics.methods import EPSILON, REFERENCES, Found, Look, look
from hdarts.workbook.analysis.diagnostics.snapshot import Snapshot, read_search, short_search, snapshots
from hdarts.workbook.analysis.diagnostics.tables import edge_table, method_table, part_table, second_opinions
from hdarts.workbook.analysis.diagnostics.words import about_batch_size, about_kinks, about_sharpness, answer, numbers

__all__ = [
    "EPSILON",
    "LAW",
    "REFERENCES",
    "Found",
    "Look",
    "SmoothStandIn",
    "Snapshot",
    "about_batch_size",
    "about_kinks",
    "about_sharpness",
    "answer",
    "as_reported",
    "edge_table",
    "epsilon_errors",
    "extreme_eigenvalues",
    "look",
    "method_table",
    "numbers",
    "part_table",
    "read_search",
    "second_opinions",
    "sharpness",
    "short_search",
    "snapshots",
    "square_root_law",
    "varied",
]

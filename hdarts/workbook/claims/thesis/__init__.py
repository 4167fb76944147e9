"""The thesis's numbers as package data, its statements and equations, and what recomputing them gives.

The files are described in README.md in this folder. `line` is always a line of the thesis's text (`report.md`).
"""

from hdarts.workbook.claims.thesis.checks import check_statements, deviations, disagreements, overfitting
from hdarts.workbook.claims.thesis.counts import model_sizes
from hdarts.workbook.claims.thesis.equations import EQUATIONS, equations
from hdarts.workbook.claims.thesis.read import table
from hdarts.workbook.claims.thesis.stated import STATED

__all__ = [
    "EQUATIONS",
    "STATED",
    "check_statements",
    "deviations",
    "disagreements",
    "equations",
    "model_sizes",
    "overfitting",
    "table",
]

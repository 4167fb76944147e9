"""The thesis's numbers as package data, what follows from them, and what runs say about the thesis's claims.

The files are described in README.md beside this one. `line` is always a line of the thesis's text (`report.md`).
"""

from hdarts.workbook.claims.thesis.checks import check_statements, deviations, disagreements, overfitting
from hdarts.workbook.claims.thesis.counts import model_sizes
from hdarts.workbook.claims.thesis.read import table

__all__ = ["check_statements", "deviations", "disagreements", "model_sizes", "overfitting", "table"]

"""The thesis's numbers as package data, its statements and equations, and what recomputing them gives.

The files are described in README.md in this folder. `line` is always a line of the thesis's text (`report.md`).
"""

from hdarts.workbook.claims.thesis.checks import check_statements, deviations, disagreements, overfitting, significance
from hdarts.workbook.claims.thesis.counts import model_sizes
from hdarts.workbook.claims.thesis.equations import EQUATIONS, equations
from hdarts.workbook.claims.thesis.read import table
from hdarts.workbook.claims.thesis.stated import STATED

__all__ = [
    "EQUATIONS",
    "STATED",
    "TABLES",
    "check_statements",
    "deviations",
    "disagreements",
    "equations",
    "model_sizes",
    "overfitting",
    "significance",
    "table",
]

TABLES = {  # that notebook 07 makes of the thesis alone, with their titles
    "disagreements": "Statements of the thesis that its own rows, or our models, do not confirm",
    "deviations": "Standard deviations that the thesis states: which formula gives them",
    "equations": "Equations of the thesis that are wrong or unclear",
    "significance": "Differences between the cells of the thesis's models, with the tests that it does not make",
    "overfitting": "Searches of the thesis without a skip connection in the normal cell",
}
ABOUT = """**The thesis compared with itself**: what it states, next to what its own rows and our models give. Each
disagreement is computed; its cause is our interpretation. Below are the formula behind each of its standard deviations,
the equations that are wrong or unclear, the number of searches that "overfit", which in the thesis means that the
normal cell has no skip connection, and what tests say of the differences between its models. It has one cell per model,
so these compare cells and not methods.

The thesis divides by n, as if its runs were the whole population. hdarts divides by n - 1 everywhere: for 5 runs, its
deviations are 1.12 times as large. The accuracies of the thesis are those of the best epoch, chosen on the test set
(its tables say *Best Testing Accuracy*)."""

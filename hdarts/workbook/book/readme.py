"""The README's table of the quick study, from the result table of its analysis."""

from math import isnan
from pathlib import Path

import pandas as pd

from hdarts.runs.run import read_table
from hdarts.workbook.formatting import markdown_table, replace_marked
from hdarts.workbook.study import Plan

MARK = "quick study"


def results_of(plan: Plan) -> pd.DataFrame:
    """Return the result table of a study's analysis; empty if it has not run."""
    analyses = [run.folder for run in plan.runs if run.params.stage == "analysis"]
    return read_table(analyses[0], "results") if analyses else pd.DataFrame()


def table_of(results: pd.DataFrame) -> str:
    """Return the table in Markdown: accuracies in per cent, one row per arm."""
    rows = []
    for row in results.to_dict("records"):
        best, cells = row["validation_accuracy_best"], row["cells_tested"]
        over = f" over the means of {cells} cells" if row["sd_over"] == "cells" else ""
        rows.append(
            {
                "arm": row["arm"],
                "search validation, mean (best)": "never selected"
                if isnan(best)
                else f"{row['validation_accuracy_mean']:.2f} ({best:.2f})",
                "skip connections, by seed": ", ".join(str(row["skips_normal"]).split()),
                "evaluations": row["evaluations"],
                "test accuracy, last epoch (sd)": f"{row['last_test_accuracy_mean']:.2f} "
                f"({row['last_test_accuracy_sd']:.2f}{over})",
                "best epoch, chosen on the test set": f"{row['best_epoch_test_accuracy_mean']:.2f}",
            }
        )
    return markdown_table(rows)


def write_table(results: pd.DataFrame, page: Path) -> None:
    """Replace the table of the quick study in a page."""
    replace_marked(page, MARK, table_of(results))

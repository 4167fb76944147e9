"""Build the book of an executed study, `python -m hdarts.workbook.book STUDY.yaml`; `make book` does this.

With `--notebooks FOLDER` it writes only the executed notebooks, made small, a README and results.csv into that folder,
and with `--table PAGE` the table of these results into a page.
"""

import argparse
import sys
from pathlib import Path

from hdarts.errors import ParameterError
from hdarts.runs.atomic import write_atomic
from hdarts.workbook.book.build import build
from hdarts.workbook.book.notebooks import shown_runs, write_notebooks
from hdarts.workbook.book.readme import results_of, write_table
from hdarts.workbook.commands import in_workbook_of
from hdarts.workbook.study import plan_study


def main(arguments: list[str]) -> int:
    """Run the command and return its exit code, 2 if a file or a run is missing."""
    parser = argparse.ArgumentParser(prog="python -m hdarts.workbook.book", description=__doc__)
    parser.add_argument("study", type=Path, metavar="STUDY.yaml", help="a study that has run")
    parser.add_argument("--output", type=Path, default=Path("build/book"), help="folder of the pages")
    parser.add_argument("--notebooks", type=Path, metavar="FOLDER", help="write the notebooks there, and no pages")
    parser.add_argument("--table", type=Path, metavar="PAGE", help="with --notebooks: replace the table of a page")
    chosen = parser.parse_args(arguments)
    if chosen.table and not chosen.notebooks:
        parser.error("--table needs --notebooks, whose results it shows")
    output, notebooks = chosen.output.absolute(), chosen.notebooks and chosen.notebooks.absolute()
    page = chosen.table and chosen.table.absolute()
    try:
        with in_workbook_of(chosen.study) as study:
            plan = plan_study(study)
            if notebooks is None:
                print(f"book: {build(plan, output)}")
            else:
                write_notebooks(plan, shown_runs(plan), notebooks)
                results = results_of(plan)
                write_atomic(notebooks / "results.csv", results.to_csv(index=False))
                if page is not None:
                    write_table(results, page)
                print(f"notebooks: {notebooks}")
    except ParameterError as error:
        print(f"book: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

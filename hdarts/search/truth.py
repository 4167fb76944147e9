"""What the benchmark's table says of the cells of a search, for truth.csv only: no search ever reads that file."""

from collections.abc import Mapping
from dataclasses import dataclass

from hdarts.data.nasbench201_table import BenchmarkTable, table_path
from hdarts.runs.run import Run
from hdarts.search.log import alpha_at
from hdarts.space import NASBENCH201, Genotype, SearchSpace, discretise


@dataclass(frozen=True)
class Judge:
    """Writes truth.csv; without a table, or in another space, it does nothing. Nothing of it comes back to a search.

    The columns are `epoch` and those of `BenchmarkTable.lookup`: the cell's string form, its skip connections, its
    accuracies, ranks, percentiles and regrets.
    """

    run: Run
    table: BenchmarkTable | None

    @classmethod
    def of(cls, run: Run, space: SearchSpace) -> "Judge":
        """Return the judge of a search of a space; a damaged table raises `ParameterError`."""
        return cls(run, BenchmarkTable.read() if space is NASBENCH201 and table_path() else None)

    def score(self, cells: Mapping[int, Genotype] | None = None) -> None:
        """Score the cells by epoch; those that are not given are derived from alpha.csv, after each of its epochs."""
        if self.table is not None:
            cells = derived(self.run) if cells is None else cells
            self.run.write_table("truth", [{"epoch": e, **self.table.lookup(cell)} for e, cell in cells.items()])


def derived(run: Run) -> dict[int, Genotype]:
    """Return the cell that a search derives after each epoch, from its alpha.csv."""
    epochs = (int(epoch) for epoch in run.table("alpha")["epoch"].unique() if epoch > 0)
    return {epoch: discretise(alpha_at(run, epoch), NASBENCH201) for epoch in epochs}

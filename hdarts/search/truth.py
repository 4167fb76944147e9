"""truth.csv: the benchmark's results for the cells of a search. No search ever reads that file."""

from collections.abc import Mapping
from dataclasses import dataclass

from hdarts.data.nasbench201_table import BenchmarkTable, table_path
from hdarts.params import SearchParams
from hdarts.runs.processes import SINGLE, Processes
from hdarts.runs.run import Run
from hdarts.search.custom import NAMED, Parts
from hdarts.search.log import weights_at
from hdarts.search.selection import selection_of
from hdarts.space import SPACES, Genotype, NASBench201, SearchSpace


@dataclass(frozen=True)
class TruthFile:
    """The file truth.csv of a run; without a table, or in another space, nothing is written.

    The columns are `epoch` and those of `BenchmarkTable.lookup`: the cell's string form, its skip connections, its
    accuracies, ranks, percentiles and regrets.
    """

    run: Run
    table: BenchmarkTable | None
    parts: Parts = NAMED

    @classmethod
    def of(cls, run: Run, space: SearchSpace, processes: Processes = SINGLE, parts: Parts = NAMED) -> "TruthFile":
        """Return the file of a search of a space, which the main process writes.

        A damaged table raises `ParameterError`.
        """
        wanted = isinstance(space, NASBench201) and processes.is_main
        return cls(run, BenchmarkTable.read() if wanted and table_path() else None, parts)

    def write(self, cells: Mapping[int, Genotype] | None = None) -> None:
        """Write one row per cell, given by epoch; by default the cells derived from each epoch of alpha.csv."""
        if self.table is not None:
            cells = derived(self.run, self.parts) if cells is None else cells
            self.run.write_table("truth", [{"epoch": e, **self.table.lookup(cell)} for e, cell in cells.items()])


def derived(run: Run, parts: Parts = NAMED) -> dict[int, Genotype]:
    """Return the cell that a search derived after each epoch, from its alpha.csv."""
    epochs = (int(epoch) for epoch in run.table("alpha")["epoch"].unique() if epoch > 0)
    assert isinstance(run.params, SearchParams)
    selection, space = parts.selection or selection_of(run.params), SPACES[run.params.space]
    return {epoch: selection(weights_at(run, epoch, True, parts.parametrisation), space) for epoch in epochs}

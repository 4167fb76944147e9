"""The runs of a study on the workers of a Dask cluster (`hdarts run STUDY --engine dask`).

Dask hands runs out and gives those of a lost worker to another. All else is as on one machine: a run is a folder, which
every worker sees, and wherever it is started it goes on from its last checkpoint. A run is finished exactly once: a
worker waits for the lock of its folder, and finds it done where another has finished it meanwhile.

`settings` says how workers come about, `connect` lets them come, `engine` gives them runs, `work` is what they do.
"""

from hdarts.workbook.cluster.engine import required_resources, run_on_cluster
from hdarts.workbook.cluster.file import Cluster, read_cluster

__all__ = ["Cluster", "read_cluster", "required_resources", "run_on_cluster"]

"""The runs of a study on the workers of a Dask cluster (`hdarts run STUDY --engine dask`).

Dask distributes the runs and gives those of a lost worker to another. Everything else is as on one machine: a run is a
folder that every worker sees, and it resumes from its last checkpoint wherever it starts. A run is computed once: a
worker waits for the lock of its folder, and returns if another has finished it meanwhile.

`file` describes the workers, `connect` starts or finds them, `queue` requests jobs, `engine` gives them runs, `worker`
executes these.
"""

from hdarts.workbook.cluster.engine import required_resources, run_on_cluster
from hdarts.workbook.cluster.file import Cluster, read_cluster
from hdarts.workbook.cluster.queue import require_queue

__all__ = ["Cluster", "read_cluster", "require_queue", "required_resources", "run_on_cluster"]

"""The description of a study's workers: the `cluster:` block of a study file, or a separate file."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hdarts.params import read_yaml, validated

EXTRA = "the engine `dask` needs packages that are not installed: pip install 'hdarts[cluster]'"
QUEUES = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster"}


class Cluster(BaseModel):
    """Where the workers of a study run, and what each of them offers.

    kind      scheduler (already running, at `address`), local (processes here), gpus (here, one worker per GPU), or the
              queue of a cluster: slurm, pbs, lsf (`options` go to the class of dask-jobqueue: account, walltime, ...)
    workers   how many (0: one per core, or per GPU); a scheduler has those that connect to it
    cores     per worker, shared by the `runs` that it computes at a time; memory in GiB, 0: unlimited
    gpus      per worker, which then computes one run at a time
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["scheduler", "local", "gpus", "slurm", "pbs", "lsf"]
    address: str = ""
    workers: int = Field(default=0, ge=0, le=10_000)
    cores: int = Field(default=1, ge=1)
    runs: int = Field(default=1, ge=1)
    gpus: int = Field(default=0, ge=0)
    memory: float = Field(default=0, ge=0)
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.kind == "scheduler") != bool(self.address):
            raise ValueError("address: kind scheduler needs one, and no other kind has one")
        if (self.gpus or self.kind == "gpus") and self.runs > 1:
            raise ValueError("runs: a worker with GPUs computes one run at a time")
        if self.options and self.kind not in QUEUES:
            raise ValueError("options: only a queue (slurm, pbs, lsf) has options")
        if self.kind in QUEUES and not (self.workers and self.memory):
            raise ValueError("workers, memory: a queue needs the number of jobs and the memory of each")
        return self

    @property
    def offered(self) -> dict[str, float]:
        """What a worker offers to runs, by the names of their resources."""
        gpus = max(self.gpus, int(self.kind == "gpus"))
        named = {"runs": self.runs, "gpus": gpus, "memory": self.memory}
        return {name: float(amount) for name, amount in named.items() if amount}


def read_cluster(block: dict[str, Any] | None, path: Path | None, scheduler: str) -> Cluster:
    """Return the cluster at the address `scheduler`, else that in the file `path`, in a study's `block`, or local."""
    if scheduler:
        block, named = {"kind": "scheduler", "address": scheduler}, "--scheduler"
    elif path is not None:
        block, named = read_yaml(path), str(path)
    else:
        block, named = {"kind": "local"} if block is None else block, "`cluster`"
    return validated(Cluster, block, named)

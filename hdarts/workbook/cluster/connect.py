"""Connect to a cluster: a running scheduler, processes of this host, or jobs of a queue (`queue`)."""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hdarts.errors import ParameterError
from hdarts.runs.limits import cores
from hdarts.workbook.cluster.file import EXTRA, QUEUES, Cluster
from hdarts.workbook.cluster.queue import queued

PATIENCE = 60  # seconds to wait for the scheduler and its first worker


@contextmanager
def connected(settings: Cluster, logs: Path) -> Iterator[Any]:
    """Yield a client of the cluster; workers started here end with the context. `logs`: folder for those of jobs."""
    try:
        from distributed import Client
    except ImportError:
        raise ParameterError(EXTRA) from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # the states of runs show the same
    if settings.kind == "scheduler":
        try:
            client = Client(settings.address, timeout=PATIENCE)
        except (OSError, ValueError) as error:
            raise ParameterError(f"no scheduler answers at {settings.address} ({type(error).__name__})") from None
        with client:
            try:
                client.wait_for_workers(1, timeout=PATIENCE)
            except TimeoutError:
                raise ParameterError(
                    f"no worker has connected to the scheduler at {settings.address} within {PATIENCE} s: start some, "
                    "`dask worker ADDRESS --nthreads 4 --resources runs=1` on each host"
                ) from None
            yield client
        return
    if settings.kind in QUEUES:
        with queued(settings, logs) as client:
            yield client
        return
    with _here(settings) as cluster, Client(cluster) as client:
        client.wait_for_workers(1)
        yield client


def _here(settings: Cluster) -> Any:
    """Return workers that are processes of this host; of kind `gpus` each sees one GPU."""
    from dask import config
    from distributed import Nanny, Scheduler, SpecCluster

    count = settings.workers or (_gpus() if settings.kind == "gpus" else max(1, cores() // settings.cores))
    spec = {}
    for number in range(count):
        options: dict[str, Any] = {"nthreads": settings.cores, "resources": settings.offered, "memory_limit": 0}
        if settings.kind == "gpus":
            options["env"] = {"CUDA_VISIBLE_DEVICES": str(number)}
        spec[number] = {"cls": Nanny, "options": options}
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}}
    quiet = {"distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "critical"}
    with config.set(quiet):
        return SpecCluster(workers=spec, scheduler=scheduler)


def _gpus() -> int:
    import torch

    if not (count := torch.cuda.device_count()):
        raise ParameterError("`cluster`: kind gpus: this host has no GPU that PyTorch can use")
    return count


def _workers(client: Any) -> dict[str, dict[str, Any]]:
    return client.scheduler_info(n_workers=-1)["workers"]


def described(client: Any) -> str:
    """Return a sentence that counts the workers of each kind: "2 of 1 cores, {'runs': 1.0}"."""
    workers = _workers(client).values()
    kinds = Counter(f"{worker['nthreads']} cores, {worker['resources'] or 'no resources'}" for worker in workers)
    return "; ".join(f"{count} of {kind}" for kind, count in kinds.items())


def offers(client: Any, settings: Cluster) -> dict[str, float]:
    """Return the largest amount of each resource that a present or expected worker offers."""
    offered = dict(settings.offered) if settings.kind != "scheduler" else {}
    for worker in _workers(client).values():
        for name, amount in worker["resources"].items():
            offered[name] = max(offered.get(name, 0), amount)
    return offered

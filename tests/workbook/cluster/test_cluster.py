"""Studies on a Dask cluster: a real scheduler, and real workers that are killed or lost."""

import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import psutil
import pytest
from helpers.command import called
from helpers.faults import ROOT, STUDY, gone, to_the_end, wait_until
from helpers.small_project import finished, hdarts, plan_study, write_project
from helpers.small_runs import contents, differences, environment

from hdarts.errors import ParameterError
from hdarts.workbook import commands
from hdarts.workbook.cluster import Cluster, connect, read_cluster, required_resources
from hdarts.workbook.cluster.queue import UNFINISHED, _ended
from hdarts.workbook.cluster.worker import WorkerTask

SLEEPS = "import time\ntime.sleep(1.5)"


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start a scheduler, or a worker for one run, in a process that ends with the test; all share a scheduler file."""
    started: list[subprocess.Popen] = []
    file = ["--scheduler-file", str(tmp_path / "scheduler.json"), "--no-dashboard"]
    words = {
        "scheduler": ["--host", "127.0.0.1", "--port", "0"],
        "worker": ["--no-nanny", "--nthreads", "1", "--resources", "runs=1", "--local-directory", str(tmp_path)],
    }

    def start(what: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *file, *words[what]]
        with (tmp_path / "dask.log").open("ab") as log:
            started.append(subprocess.Popen(command, env=environment(tmp_path / "elsewhere"), stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def address(folder: Path) -> list[str]:
    """Return the options for the engine and the address in the scheduler file."""
    wait_until(lambda: (folder / "scheduler.json").exists() and (folder / "scheduler.json").read_text().endswith("}"))
    return ["--engine", "dask", "--scheduler", json.loads((folder / "scheduler.json").read_text())["address"]]


def starts(runs: Path) -> list[str]:
    """Return the runs that kernels have started, in order."""
    path = runs / "tiny" / "order.txt"
    return path.read_text().split() if path.exists() else []


def test_a_study_ends_as_on_one_machine_although_a_worker_is_killed_in_its_search(tmp_path: Path, dask) -> None:
    to_the_end("study", tmp_path / "local")
    dask("scheduler")
    workers, runs = [dask("worker"), dask("worker")], tmp_path / "dask"
    command = [sys.executable, "-m", "hdarts", "run", str(STUDY), *address(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, env=environment(runs), stdout=subprocess.PIPE, text=True) as process:
        wait_until(lambda: list(runs.glob("tiny/search/*/checkpoint.pt")))
        owner = next(runs.glob("tiny/search/*/.owner")).read_text()
        victim = next(one for one in workers if one.pid in ancestors(of_kernel=int(owner.split()[1])))
        victim.kill()
        out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    assert differences(tmp_path / "local", runs) == []


def ancestors(of_kernel: int) -> list[int]:
    """Return the process of its run, that of the worker, and so on."""
    return [process.pid for process in psutil.Process(of_kernel).parents()]


@pytest.mark.soak
def test_a_second_client_finds_what_continued_after_the_first_was_killed(tmp_path: Path, dask) -> None:
    dask("scheduler"), dask("worker"), dask("worker")
    path, runs = write_project(tmp_path, toy=SLEEPS), tmp_path / "runs"
    client = hdarts("run", path, *address(tmp_path), runs=runs)
    wait_until(lambda: starts(runs))
    client.kill()
    client.communicate()
    code, _out, err = finished("run", path, *address(tmp_path), runs=runs)
    assert code == 0, err
    assert sorted(starts(runs)) == sorted({*starts(runs)}), "no run was computed twice"
    assert len(starts(runs)) == len(plan_study(path).runs)


def quick(runs: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hdarts", "run", str(ROOT / "params/studies/quick.yaml"), *words]
    return subprocess.Popen(command, cwd=ROOT, env=environment(runs), stdout=subprocess.PIPE, text=True)


def timeless(runs: Path) -> dict[str, bytes]:
    """Return all files except figures of measured times; tables without times."""
    found = {}
    for name, content in contents(runs).items():
        path = Path(name)
        if path.parent.name == "figures" and path.stem in {"accuracy_and_cost", "cost", "seconds"}:
            continue
        if path.suffix == ".csv":
            table = pd.read_csv(io.BytesIO(content), dtype=str)
            if path.stem == "claims":
                table = table[~table["id"].str.startswith("cost")]
            seconds = [column for column in table if column.endswith("seconds")]
            content = table.drop(columns=seconds).to_csv().encode()
        found[name] = content
    return found


@pytest.mark.soak
def test_the_quick_study_ends_as_on_one_machine_although_its_client_is_killed(tmp_path: Path, dask) -> None:
    """Killed after two searches saved: their workers continue, and the next client waits for them."""
    dask("scheduler"), dask("worker"), dask("worker")
    runs = tmp_path / "dask"
    client = quick(runs, *address(tmp_path))
    wait_until(lambda: len(list(runs.glob("quick/search/*/checkpoint.pt"))) == 2, 3600)
    client.kill()
    client.communicate()
    for folder, words in ((runs, address(tmp_path)), (tmp_path / "local", [])):
        client = quick(folder, *words)
        out, _ = client.communicate(timeout=4 * 3600)
        assert client.returncode == 0, out
    local, there = timeless(tmp_path / "local"), timeless(runs)
    assert len(local) > 400
    assert [name for name in sorted({*local, *there}) if local.get(name) != there.get(name)] == []


@pytest.mark.soak
def test_on_a_request_to_stop_the_runs_of_all_workers_save_and_exit(tmp_path: Path, dask) -> None:
    dask("scheduler"), dask("worker")
    path, runs = write_project(tmp_path, toy="import time\ntime.sleep(100)"), tmp_path / "runs"
    client = hdarts("run", path, *address(tmp_path), runs=runs)
    wait_until(lambda: starts(runs))
    client.send_signal(signal.SIGTERM)
    _, err = client.communicate(timeout=600)
    assert client.returncode == 75
    assert err.splitlines()[-1] == "hdarts: stopped; the same command resumes from here"
    gone(runs, servers=False)


@pytest.mark.soak
def test_a_lost_scheduler_is_reported_and_the_study_resumes_with_the_next(tmp_path: Path, dask) -> None:
    scheduler = dask("scheduler")
    dask("worker")
    path, runs = write_project(tmp_path, toy=SLEEPS), tmp_path / "runs"
    client = hdarts("run", path, *address(tmp_path), runs=runs)
    wait_until(lambda: starts(runs))
    scheduler.kill()
    out, err = client.communicate(timeout=600)
    assert client.returncode == 75, err
    assert "the cluster lost it; the same command resumes from here" in out
    gone(runs)
    (tmp_path / "scheduler.json").unlink()
    dask("scheduler"), dask("worker")
    assert finished("run", path, *address(tmp_path), runs=runs)[0] == 0


def queue(
    folder: Path, monkeypatch: pytest.MonkeyPatch, sbatch: str, squeue: str = "exit 1", **options: str
) -> list[str | Path]:
    """Install fake commands of Slurm; return the options of the engine for two of its jobs."""
    commands = {"sbatch": sbatch, "scancel": 'kill -- "-$1"', "squeue": squeue}
    for name, text in commands.items():
        path = folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    more = {"walltime": "00:05:00", "interface": "lo", **options}
    cluster = folder / "slurm.yaml"
    cluster.write_text(json.dumps({"kind": "slurm", "workers": 2, "memory": 1, "options": more}))
    return ["--engine", "dask", "--cluster", cluster]


STARTS = """
[ $(ls {folder}/job-*.log 2>/dev/null | wc -l) -lt 2 ] && limit="{limit}"
job=$(mktemp {folder}/job-XXXXXX)
cp "$1" "$job"
setsid $limit sh "$job" > "$job.log" 2>&1 &
echo "Submitted batch job $!"
"""  # at once on this host, from a copy, since dask-jobqueue removes the script; the limit is that of the first two


@pytest.mark.soak
@pytest.mark.parametrize("limit", ["", "timeout -s KILL 40"])
def test_jobs_of_a_queue_also_if_they_reach_their_walltime(tmp_path: Path, monkeypatch, limit: str) -> None:
    monkeypatch.setenv("DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT", "1s")
    words = queue(tmp_path, monkeypatch, STARTS.format(folder=tmp_path, limit=limit))
    path = write_project(tmp_path, toy="time.sleep(14)" if limit else "")
    code, _out, err = finished("run", path, *words, runs=tmp_path / "runs")
    assert code == 0, err
    assert {*starts(tmp_path / "runs")} == {run.name for run in plan_study(path).runs}
    assert (len(list(tmp_path.glob("job-*.log"))) > 2) == bool(limit)


def test_a_queue_that_refuses_the_jobs_is_named_with_its_reason(tmp_path: Path, monkeypatch) -> None:
    refusal = 'echo "sbatch: error: Invalid account for job" >&2\nexit 1\n'
    words = queue(tmp_path, monkeypatch, refusal)
    code, out, err = finished("run", write_project(tmp_path), *words, runs=tmp_path / "runs")
    reason = "hdarts: `cluster`: kind slurm: the queue refuses the jobs: sbatch: error: Invalid account for job\n"
    assert (code, err) == (2, reason), out


DIES = """
echo "python3: no module named distributed" > $(sed -n 's/^#SBATCH -e //p' "$1" | sed "s/%J/$$/")
echo "Submitted batch job $$"
"""


def test_jobs_that_end_before_they_connect_are_named_with_their_log(tmp_path: Path, monkeypatch) -> None:
    words = queue(tmp_path, monkeypatch, DIES, squeue="echo 1234")
    code, out, err = finished("run", write_project(tmp_path), *words, runs=tmp_path / "runs")
    jobs = tmp_path / "runs" / "tiny" / "jobs"
    (log, _) = sorted(jobs.iterdir())
    assert code == 2, out + err
    assert re.fullmatch(
        rf"hdarts: `cluster`: kind slurm: job \d+ ended before its worker connected; its log is {jobs}/\S+\.err, "
        r"which ends with: python3: no module named distributed\n",
        err,
    )
    assert f"with logs in {log.parent}" in out


@pytest.mark.parametrize(
    ("kind", "printed", "code", "expected"),
    [
        ("slurm", "12\n  14\n", 0, ["13"]),
        ("pbs", "12.server\n14.server\n", 0, ["13"]),
        ("lsf", "14   \n", 0, ["12", "13"]),
        ("slurm", "", 0, ["12", "13", "14"]),
        ("lsf", "No unfinished job found", 255, ["12", "13", "14"]),
        ("slurm", "slurm_load_jobs error: Unable to contact slurm controller", 1, []),
        ("pbs", None, 0, []),
    ],
)
def test_which_jobs_have_ended(tmp_path: Path, monkeypatch, kind: str, printed: str | None, code: int, expected):
    if printed is not None:
        command = tmp_path / UNFINISHED[kind].split()[0]
        command.write_text(f"#!/bin/sh\nprintf '{printed}' >&{1 if code == 0 else 2}\nexit {code}\n")
        command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    workers = {number: SimpleNamespace(job_id=str(12 + number)) for number in range(4)}
    workers[4] = SimpleNamespace(job_id=None)  # was refused
    assert _ended(kind, SimpleNamespace(workers=workers), connected={"3"}) == expected


@pytest.mark.parametrize("error", [KeyError, OSError])  # before Python 3.13, and from then on
def test_a_user_without_a_name_cannot_ask_the_queue(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def nameless() -> str:
        raise error("uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert _ended("slurm", SimpleNamespace(workers={0: SimpleNamespace(job_id="12")})) == []


@pytest.mark.parametrize(("kind", "command"), [("slurm", "sbatch"), ("pbs", "qsub"), ("lsf", "bsub")])
def test_a_queue_that_is_not_there_is_named(tmp_path: Path, monkeypatch, capsys, kind: str, command: str) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(commands, "plan_study", plan_study)
    (tmp_path / "queue.yaml").write_text(json.dumps({"kind": kind, "workers": 2, "memory": 1}))
    words = ["run", write_project(tmp_path), "--engine", "dask", "--cluster", tmp_path / "queue.yaml"]
    assert called(monkeypatch, *words) == 2
    out, err = capsys.readouterr()
    assert f"kind {kind}: this host has no command `{command}`" in err and err.count("\n") == 1 and out == ""
    assert not (tmp_path / "runs").exists()


def test_an_option_that_a_queue_does_not_have_is_named(tmp_path: Path, monkeypatch) -> None:
    words = queue(tmp_path, monkeypatch, "exit 1", queeu="long")
    code, _, err = finished("run", write_project(tmp_path), *words, runs=tmp_path / "runs")
    assert code == 2 and "hdarts: `cluster`: options: " in err and "queeu" in err and "Traceback" not in err


@pytest.mark.soak
def test_processes_of_this_host(tmp_path: Path) -> None:
    path = write_project(tmp_path)
    path.write_text(path.read_text() + "cluster: {kind: local, workers: 2}\n")
    code, _out, err = finished("run", path, "--engine", "dask", runs=tmp_path / "runs")
    assert code == 0, err


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({}, "`cluster`: kind: Field required"),
        ({"kind": "kubernetes"}, "`cluster`: kind: Input should be 'scheduler', 'local'"),
        ({"kind": "local", "workres": 2}, "`cluster`: workres: Extra inputs are not permitted"),
        ({"kind": "scheduler"}, "`cluster`: address: kind scheduler needs one"),
        ({"kind": "slurm"}, "`cluster`: workers, memory: a queue needs the number"),
        ({"kind": "local", "options": {"queue": "long"}}, "`cluster`: options: only a queue"),
        ({"kind": "gpus", "runs": 2}, "`cluster`: runs: a worker with GPUs computes one run at a time"),
        ({"kind": "local", "gpus": 1, "runs": 2}, "`cluster`: runs: a worker with GPUs computes one run at a time"),
    ],
)
def test_an_impossible_cluster_is_refused(block: dict, message: str) -> None:
    with pytest.raises(ParameterError) as refused:
        read_cluster(block, None, "")
    assert str(refused.value).startswith(message)


def test_an_address_overrides_a_file_which_overrides_the_study(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("{kind: local, workers: 3}")
    study = {"kind": "local", "workers": 2}
    assert read_cluster(study, file, "tcp://host:1") == Cluster(kind="scheduler", address="tcp://host:1")
    assert read_cluster(study, file, "").workers == 3
    assert read_cluster(study, None, "").workers == 2
    assert read_cluster(None, None, "").kind == "local"


@pytest.mark.parametrize("name", ["local-gpus", "scheduler", "slurm"])
def test_the_examples_can_be_read(name: str) -> None:
    assert read_cluster(None, ROOT / "params" / "clusters" / f"{name}.yaml", "").offered.get("runs") == 1


@pytest.fixture
def example(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    return plan_study(write_project(tmp_path, "study: tiny\nstages: {toy: {notebook: 01_toy, resources: {gpus: 2}}}\n"))


def test_a_run_needs_the_resources_of_its_stage(example) -> None:
    run = example.runs[0]
    assert required_resources(run, {"runs": 4.0, "gpus": 2.0}) == {"runs": 1.0, "gpus": 2.0}
    with pytest.raises(ParameterError, match=r"toy/.* needs gpus: 2, workers offer at most 1"):
        required_resources(run, {"gpus": 1.0})
    with pytest.raises(ParameterError, match="workers offer none"):
        required_resources(run, {"runs": 1.0})


def test_a_worker_that_does_not_see_the_folder_computes_nothing_there(example) -> None:
    work = WorkerTask.prepare(example)
    assert work.missing_folder() == ""
    (work.study / ".shared").write_text("of another client")
    assert "does not see" in work.missing_folder() and str(work.study) in work.missing_folder()
    assert work(example.runs[0]).state == "failed" and not example.runs[0].folder.exists()


def test_an_address_without_a_scheduler_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(connect, "PATIENCE", 0.5)
    with (
        pytest.raises(ParameterError, match="no scheduler answers at tcp"),
        connect.connected(Cluster(kind="scheduler", address="tcp://127.0.0.1:9"), tmp_path),
    ):
        pass

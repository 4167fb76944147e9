"""The command `hdarts`: run a study, show its progress, write its report, use the networks it found.

Exit codes: 0 all done; 1 a run failed or is blocked; 2 bad input, explained in one sentence; 71 a run is out of memory;
73 the runs folder cannot be written; 75 stopped by a signal, and the same command resumes; 128 + the number of a second
signal, which ends it at once. The highest one counts.
"""

import signal
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import typer

from hdarts.errors import CannotWrite, OutOfMemory, ParameterError, Stopped, of_the_disk
from hdarts.params import read_yaml
from hdarts.runs.atomic import write_atomic
from hdarts.runs.lock import exclusive
from hdarts.runs.run import BEFORE, NEWEST, tidy
from hdarts.runs.signals import end_at_once, on_request
from hdarts.workbook.cluster import Cluster, read_cluster, run_on_cluster
from hdarts.workbook.formatting import format_table
from hdarts.workbook.init import start
from hdarts.workbook.page import write_missing_pages
from hdarts.workbook.page.report import write_report
from hdarts.workbook.page.report.pdf import browser, write_pdf
from hdarts.workbook.study import Plan, PlannedRun, plan_study, record_plan, runner
from hdarts.workbook.study.images import refuse_changed_images
from hdarts.workbook.study.preflight import preflight
from hdarts.workbook.study.status import LiveTable, counts, show

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="a study, such as params/studies/quick.yaml")]
Scale = Annotated[str, typer.Option(help="a scale of the study, such as mini")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"hdarts {version('hdarts')}")
        raise typer.Exit


@app.callback()
def hdarts(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Differentiable architecture search with hypernetworks: run studies, and use the networks they find."""


@app.command()
def run(
    study: StudyFile,
    jobs: Annotated[int, typer.Option(help="runs at a time on this host; 0: one per core, at most 8, and per GPU")] = 0,
    engine: Annotated[Literal["local", "dask"], typer.Option(help="this host, or the workers of a cluster")] = "local",
    scheduler: Annotated[str, typer.Option(help="address of a running Dask scheduler")] = "",
    cluster: Annotated[Path | None, typer.Option(help="a cluster file, such as params/clusters/slurm.yaml")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list the runs and estimate their cost")] = False,
    scale: Scale = "full",
) -> None:
    """Run what is missing of a study. Then write its report and print its results."""
    plan = plan_study(study, scale=scale)
    if (scheduler or cluster) and engine == "local":
        raise ParameterError("--scheduler and --cluster require --engine dask")
    if jobs < 0:
        raise ParameterError(f"--jobs {jobs}: give a number of runs at a time, or 0 for one per core")
    if dry_run:
        _list(plan)
        return _estimate(plan, jobs or min(8, runner.cores()))
    workers = read_cluster(plan.study.cluster, cluster, scheduler) if engine == "dask" else None
    before = _outcomes(plan)
    refuse_changed_images(run for run in plan.runs if before[run.name].state == "done")
    if todo := [run for run in plan.runs if before[run.name].state != "done"]:
        preflight(todo)
    with exclusive(plan.folder):
        if changed := record_plan(plan):
            print(changed)
        table = LiveTable(plan, before)
        try:
            with on_request(partial(_stop, table), end_at_once):
                bad = _run(plan, table, *_engine(plan, jobs, workers))
        except Stopped as stopped:
            print(_table(plan, {}))
            print(f"hdarts: {stopped}", file=sys.stderr)
            raise typer.Exit(Stopped.exit_code) from None
        print(_table(plan, bad))
        for done in (run for run in plan.runs if run.name not in bad):
            _remove_left_checkpoints(done)
        _report(plan)
    raise typer.Exit(max((outcome.code for outcome in bad.values()), default=0))


@app.command()
def status(study: StudyFile, scale: Scale = "full") -> None:
    """Show the progress of a study: runs, stages, failures. Reads the run folders, so it works on any host."""
    plan = plan_study(study, scale=scale)
    outcomes = _outcomes(plan)
    show(plan, {name: outcome.state for name, outcome in outcomes.items()})
    for name, outcome in outcomes.items():
        if outcome.state == "failed":
            print(f"failed: {name}: {outcome.error}")


@app.command()
def report(
    study: StudyFile,
    scale: Scale = "full",
    pdf: Annotated[bool, typer.Option("--pdf", help="also print it to report.pdf, with Chromium or Chrome")] = False,
) -> None:
    """Write the report of a study, an HTML page. It shows the runs done so far."""
    plan = plan_study(study, scale=scale)
    if pdf:
        browser()  # refuses before anything is written
    page = _report(plan)
    if pdf and page is not None:
        print(f"printed: {write_pdf(page)}")


def _remove_left_checkpoints(run: PlannedRun) -> None:
    """Remove the checkpoints of a run whose kernel was killed right after its result; what it was to keep stays."""
    left = any((run.folder / name).exists() for name in (NEWEST, BEFORE))
    if left and not read_yaml(run.folder / "params.yaml").get("keep_checkpoint", True):
        tidy(run.params, run.folder)


def _stop(table: LiveTable, number: signal.Signals) -> None:
    table.announce(f"hdarts: {number.name}: runs save and exit; a second signal ends them at once")
    raise Stopped("stopped; the same command resumes from here")


@app.command()
def batch_size(
    parameters: Annotated[Path, typer.Argument(metavar="PARAMS.yaml", help="of notebook 03: params/search/*.yaml")],
) -> None:
    """Propose a batch size that fits into memory. Measures steps of a search on this machine."""
    from hdarts.workbook.study.batch_size import propose_batch_size  # imports torch

    print(propose_batch_size(parameters))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def evaluate(
    parameters: Annotated[Path, typer.Argument(metavar="PARAMS.yaml [-p NAME VALUE]...", help="as for notebook 06")],
    context: typer.Context,
) -> None:
    """Train and test one network. Runs in one process, or in several (torchrun ... -m hdarts evaluate ...)."""
    from hdarts.workbook.evaluate import evaluate  # imports torch

    try:
        evaluate(parameters, context.args)
    except (Stopped, OutOfMemory) as fault:
        print(f"hdarts: {fault}", file=sys.stderr)
        raise typer.Exit(fault.exit_code) from None


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a new or empty folder")],
) -> None:
    """Start a workbook in a new folder. Copies the notebooks and parameter files into it."""
    start(folder)
    print(f"{folder}: has the notebooks and parameters; next: cd {folder} && hdarts run params/studies/tiny.yaml")


@app.command()
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="an evaluation: name below runs/, or folder")],
    to: Annotated[Path | None, typer.Option(help="folder to write; default: export in the run folder")] = None,
) -> None:
    """Export the trained network of an evaluation. Writes safetensors, JSON and ONNX, with a model card."""
    from hdarts.workbook.export import export  # imports torch

    written = export(run, to)
    error = written.difference
    check = "not checked, onnxruntime is not installed" if error is None else f"checked, logits within {error:.1g}"
    print(f"export: {written.folder} (ONNX {check})")


@app.command()
def predict(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="a folder that `hdarts export` wrote")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="image files")],
    top: Annotated[int, typer.Option(help="classes per image")] = 3,
) -> None:
    """Print the most likely classes of images. Exit code 1 if an image cannot be read."""
    from hdarts.workbook.export import predict  # imports torch

    code = 0
    for prediction in predict(export, images, top):
        if prediction.error:
            print(f"hdarts: {prediction.error}", file=sys.stderr)
            code = 1
        else:
            print(prediction)
    raise typer.Exit(code)


@app.command()
def convert_benchmark(
    official: Annotated[Path, typer.Argument(metavar="NATS-tss", help="the official file, or its unpacked folder")],
    output: Annotated[Path | None, typer.Option(help="Parquet file to write; default: in the data folder")] = None,
) -> None:
    """Convert the official table of NAS-Bench-201. Needs its package, nats_bench."""
    from hdarts.data import data_folders, nasbench201_table  # imports torch

    frame = nasbench201_table.convert(nasbench201_table.open_official(official))
    nasbench201_table.BenchmarkTable.from_frame(frame, official)  # refuses an incomplete table
    target = output or data_folders("")[-1] / "nasbench201" / nasbench201_table.FILE
    write_atomic(target, frame.to_parquet(index=False))
    print(f"{len(frame):,} cells: {target}")


Ends = Generator[tuple[PlannedRun, runner.Outcome], None, None]


def _engine(plan: Plan, jobs: int, cluster: Cluster | None) -> tuple[str, Callable[[], Ends]]:
    """Return where the runs of a study are computed, in words, and the generator of their outcomes."""
    if cluster is not None:
        return f"by workers of kind {cluster.kind}", partial(run_on_cluster, plan, cluster)
    at_once = jobs or min(8, runner.cores())
    return f"{at_once} at a time", partial(runner.run_locally, plan, at_once, per_gpu=jobs or 1)


def _run(plan: Plan, table: LiveTable, where: str, start: Callable[[], Ends]) -> dict[str, runner.Outcome]:
    """Run what is missing, print one line per run that ends, and return the outcomes other than `done`."""
    before = set(table.ended)
    missing = len(plan.runs) - len(before)
    print(f"study {plan.study.study}: {missing} of {len(plan.runs)} runs to do, {where}", flush=True)
    bad = {}
    with closing(start()) as every, table.shown():
        for number, (ended, outcome) in enumerate((pair for pair in every if pair[0].name not in before), 1):
            table.end(ended, outcome)
            took = "" if outcome.seconds is None else f" in {outcome.seconds:.0f} s"
            error = f": {outcome.error}" if outcome.error else ""
            print(f"{number}/{missing} {outcome.state} {ended.name}{took}{error}", flush=True)
            if outcome.state != "done":
                bad[ended.name] = outcome
    return bad


def _table(plan: Plan, bad: dict[str, runner.Outcome]) -> str:
    """Return all runs with state, seconds and the first line of their error, as text."""
    rows = []
    for run in plan.runs:
        outcome = bad.get(run.name) or runner.outcome_of(run.folder)
        seconds = "" if outcome.seconds is None else f"{outcome.seconds:.1f}"
        rows.append((run.stage, Path(run.name).name, outcome.state, seconds, outcome.error[:100]))
    return format_table(pd.DataFrame(rows, columns=["stage", "run", "state", "seconds", "error"]))


def _outcomes(plan: Plan) -> dict[str, runner.Outcome]:
    return {run.name: runner.outcome_of(run.folder) for run in plan.runs}


def _list(plan: Plan) -> None:
    """Print the runs of a study, and the counts of their states by stage."""
    states = {name: outcome.state for name, outcome in _outcomes(plan).items()}
    for name, state in states.items():
        print(f"{state:<10}  {name}")
    print(f"\n{format_table(counts(plan, states))}")


def _estimate(plan: Plan, jobs: int) -> None:
    """Print what the runs that are not done will take on this machine; Ctrl-C skips it."""
    from hdarts.workbook.study.estimate import TOTAL, estimate  # imports torch

    print(f"\nmeasuring steps on this machine, for {TOTAL} s at most", flush=True)
    try:
        result = estimate(plan.runs, jobs)
    except ParameterError as error:
        return print(f"no estimate: {error}")
    except KeyboardInterrupt:
        return print("no estimate: interrupted")
    print("\n".join(["", format_table(result.table), "", *result.notes]))


def _report(plan: Plan) -> Path | None:
    outcomes = _outcomes(plan)
    write_missing_pages(run.folder for run in plan.runs if outcomes[run.name].state == "done")
    page, table = write_report(plan, outcomes)
    if page is None:
        print("no run is done yet, so there is no report")
        return None
    if table is not None:
        print(f"\n{format_table(table)}\n")
    print(f"report: {page}")
    return page


def main() -> None:
    """Run the command; print errors that the user can fix as one sentence, without a traceback."""
    try:
        sys.exit(app(sys.argv[1:] or ["--help"], standalone_mode=False))
    except Exception as error:
        if of_the_disk(error):
            print(f"hdarts: {error}", file=sys.stderr)
            sys.exit(CannotWrite.exit_code)
        # typer's usage errors have this method; their class is click's or a copy of it, depending on the version
        message = error if isinstance(error, ParameterError) else getattr(error, "format_message", lambda: None)()
        if message is None:
            raise
        print(f"hdarts: {message}", file=sys.stderr)
        sys.exit(2)

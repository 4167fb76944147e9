"""The command `hdarts`: run a study, see where it stands, write its report page.

Exit codes: 0 all done; 1 a run failed or was blocked; 2 bad input, told in one sentence; 71 a run is out of memory;
73 the runs folder cannot be written; 75 stopped by a signal, and the same command goes on; 128 + the signal's number
when a second one ended it at once. Of several, the highest.
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
from hdarts.runs.atomic import write_atomic
from hdarts.runs.lock import exclusive
from hdarts.runs.signals import end_at_once, on_request
from hdarts.workbook.cluster import Cluster, read_cluster, run_on_cluster
from hdarts.workbook.init import start
from hdarts.workbook.page import report as report_page
from hdarts.workbook.page.report.pdf import browser, write_pdf
from hdarts.workbook.study import Plan, PlannedRun, plan_study, record_plan, runner
from hdarts.workbook.study.preflight import preflight
from hdarts.workbook.study.status import LiveTable, aligned, counts, show

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="a study, such as params/studies/quick.yaml")]
Scale = Annotated[str, typer.Option(help="one of the study's scales, such as mini")]


def _version(asked: bool) -> None:
    if asked:
        print(f"hdarts {version('hdarts')}")
        raise typer.Exit


@app.callback()
def hdarts(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print it")] = False,
) -> None:
    """Differentiable architecture search with hypernetworks: studies, and what was found in them."""


@app.command()
def run(
    study: StudyFile,
    jobs: Annotated[int, typer.Option(help="runs at a time on this host; 0: one a core, at most 8")] = 0,
    engine: Annotated[Literal["local", "dask"], typer.Option(help="this host, or the workers of a cluster")] = "local",
    scheduler: Annotated[str, typer.Option(help="address of a Dask scheduler that is running")] = "",
    cluster: Annotated[Path | None, typer.Option(help="a cluster's file, such as params/clusters/slurm.yaml")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list the runs, and estimate what they take")] = False,
    scale: Scale = "full",
) -> None:
    """Run what a study is missing. Then write its report page and print its result table."""
    plan = plan_study(study, scale=scale)
    if (scheduler or cluster) and engine == "local":
        raise ParameterError("--scheduler and --cluster are for --engine dask")
    if jobs < 0:
        raise ParameterError(f"--jobs {jobs}: give a number of runs at a time, or 0 for one a core")
    if dry_run:
        _list(plan)
        return _estimate(plan, jobs or min(8, runner.cores()))
    asked = read_cluster(plan.study.cluster, cluster, scheduler) if engine == "dask" else None
    before = {run.name: runner.outcome_of(run.folder) for run in plan.runs}
    if todo := [run for run in plan.runs if before[run.name].state != "done"]:
        preflight(todo)
    with exclusive(plan.folder):
        if changed := record_plan(plan):
            print(changed)
        watch = LiveTable(plan, before)
        try:
            with on_request(partial(_stop, watch), end_at_once):
                bad = _run(plan, watch, *_engine(plan, jobs, asked))
        except Stopped as stopped:
            print(_table(plan, {}))
            print(f"hdarts: {stopped}", file=sys.stderr)
            raise typer.Exit(Stopped.exit_code) from None
        print(_table(plan, bad))
        _report(plan)
    raise typer.Exit(max((outcome.code for outcome in bad.values()), default=0))


@app.command()
def status(study: StudyFile, scale: Scale = "full") -> None:
    """Tell from the run folders, on any host, how far a study is, run by run and stage by stage, and what failed."""
    plan = plan_study(study, scale=scale)
    seen = {run.name: runner.outcome_of(run.folder) for run in plan.runs}
    show(plan, {name: outcome.state for name, outcome in seen.items()})
    for name, outcome in seen.items():
        if outcome.state == "failed":
            print(f"failed: {name}: {outcome.error}")


@app.command()
def report(
    study: StudyFile,
    scale: Scale = "full",
    pdf: Annotated[bool, typer.Option("--pdf", help="print it to report.pdf too, by Chromium or Chrome")] = False,
) -> None:
    """Write the report page of a study. It shows the runs that are there."""
    plan = plan_study(study, scale=scale)
    if pdf:
        browser()  # refuses before anything is written
    page = _report(plan)
    if pdf and page is not None:
        print(f"printed: {write_pdf(page)}")


def _stop(watch: LiveTable, number: signal.Signals) -> None:
    watch.tell(f"hdarts: {number.name}: runs save and end; once more ends them at once")
    raise Stopped("stopped; the same command goes on from here")


@app.command()
def batch_size(
    parameters: Annotated[Path, typer.Argument(metavar="PARAMS.yaml", help="as for notebook 03: params/search/*.yaml")],
) -> None:
    """Propose a batch size that fits into memory. It is that of a search, on this machine."""
    from hdarts.workbook.study.batch_size import propose_batch_size  # imports torch

    print(propose_batch_size(parameters))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def evaluate(
    parameters: Annotated[Path, typer.Argument(metavar="PARAMS.yaml [-p NAME VALUE]...", help="as for notebook 06")],
    context: typer.Context,
) -> None:
    """Train and test one network. In this process, or in those of torchrun (torchrun ... -m hdarts evaluate ...)."""
    from hdarts.workbook.evaluate import evaluate  # imports torch

    try:
        evaluate(parameters, context.args)
    except (Stopped, OutOfMemory) as fault:
        print(f"hdarts: {fault}", file=sys.stderr)
        raise typer.Exit(fault.exit_code) from None


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a folder that is new or empty")],
) -> None:
    """Begin a workbook in a folder of your own. Notebooks and parameter files are copied into it."""
    start(folder)
    print(f"{folder}: notebooks and parameters are there; next: cd {folder} && hdarts run params/studies/tiny.yaml")


@app.command()
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="an evaluation: its name below runs/, or its folder")],
    to: Annotated[Path | None, typer.Option(help="folder to write; left out: export in the run's folder")] = None,
) -> None:
    """Write a trained network for use. That of an evaluation, as safetensors, JSON and ONNX, with a model card."""
    from hdarts.workbook.export import export  # imports torch

    written = export(run, to)
    apart = written.difference
    told = "not checked, onnxruntime is not installed" if apart is None else f"checked, logits within {apart:.1g}"
    print(f"export: {written.folder} (ONNX {told})")


@app.command()
def predict(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="a folder that `hdarts export` wrote")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="image files")],
    top: Annotated[int, typer.Option(help="classes an image")] = 3,
) -> None:
    """Print the likeliest classes of images. With their confidences; exit code 1 where an image cannot be read."""
    from hdarts.workbook.export import predict  # imports torch

    code = 0
    for prediction in predict(export, images, top):
        if prediction.fault:
            print(f"hdarts: {prediction.fault}", file=sys.stderr)
            code = 1
        else:
            print(prediction)
    raise typer.Exit(code)


@app.command()
def convert_benchmark(
    official: Annotated[Path, typer.Argument(metavar="NATS-tss", help="the official file, or its unpacked folder")],
    output: Annotated[Path | None, typer.Option(help="Parquet file to write; left out: in the data folder")] = None,
) -> None:
    """Make the table of NAS-Bench-201. That which hdarts reads, of the official one (needs its package, nats_bench)."""
    from hdarts.data import (
        data_folders,
        nasbench201_table,  # imports torch
    )

    frame = nasbench201_table.convert(nasbench201_table.open_official(official))
    nasbench201_table.BenchmarkTable.from_frame(frame, official)  # refuses what is not whole
    target = output or data_folders("")[-1] / "nasbench201" / nasbench201_table.FILE
    write_atomic(target, frame.to_parquet(index=False))
    print(f"{len(frame):,} cells: {target}")


Ends = Generator[tuple[PlannedRun, runner.Outcome], None, None]


def _engine(plan: Plan, jobs: int, cluster: Cluster | None) -> tuple[str, Callable[[], Ends]]:
    """Where the runs of a study are computed, in words, and what yields them as they end."""
    if cluster is not None:
        return f"by workers of kind {cluster.kind}", partial(run_on_cluster, plan, cluster)
    jobs = jobs or min(8, runner.cores())
    return f"{jobs} at a time", partial(runner.run_locally, plan, jobs)


def _run(plan: Plan, watch: LiveTable, where: str, start: Callable[[], Ends]) -> dict[str, runner.Outcome]:
    """Run what is missing, a line for each run that ends; return the outcomes that are not `done`."""
    before = set(watch.ended)
    missing = len(plan.runs) - len(before)
    print(f"study {plan.study.study}: {missing} of {len(plan.runs)} runs to do, {where}", flush=True)
    bad = {}
    with closing(start()) as every, watch.shown():
        for number, (ended, outcome) in enumerate((pair for pair in every if pair[0].name not in before), 1):
            watch.end(ended, outcome)
            took = "" if outcome.seconds is None else f" in {outcome.seconds:.0f} s"
            told = f": {outcome.error}" if outcome.error else ""
            print(f"{number}/{missing} {outcome.state} {ended.name}{took}{told}", flush=True)
            if outcome.state != "done":
                bad[ended.name] = outcome
    return bad


def _table(plan: Plan, bad: dict[str, runner.Outcome]) -> str:
    """All runs with state, seconds and first line of the error."""
    rows = []
    for run in plan.runs:
        outcome = bad.get(run.name) or runner.outcome_of(run.folder)
        seconds = "" if outcome.seconds is None else f"{outcome.seconds:.1f}"
        rows.append((run.stage, Path(run.name).name, outcome.state, seconds, outcome.error[:100]))
    return aligned(pd.DataFrame(rows, columns=["stage", "run", "state", "seconds", "error"]))


def _list(plan: Plan) -> None:
    """The runs of a study, and how many of each stage are in which state."""
    states = {run.name: runner.outcome_of(run.folder).state for run in plan.runs}
    for name, state in states.items():
        print(f"{state:<10}  {name}")
    print(f"\n{aligned(counts(plan, states))}")


def _estimate(plan: Plan, jobs: int) -> None:
    """What the runs that are not done will take on this machine, measured; ends quietly on Ctrl-C."""
    from hdarts.workbook.study.estimate import TOTAL, estimate  # imports torch

    print(f"\nmeasuring steps on this machine, for {TOTAL} s at most", flush=True)
    try:
        found = estimate(plan.runs, jobs)
    except ParameterError as error:
        return print(f"no estimate: {error}")
    except KeyboardInterrupt:
        return print("no estimate: interrupted")
    print("\n".join(["", aligned(found.table), "", *found.notes]))


def _report(plan: Plan) -> Path | None:
    page, table = report_page.write(plan, {run.name: runner.outcome_of(run.folder) for run in plan.runs})
    if page is None:
        print("no run is done yet: no report page")
        return None
    if table is not None:
        print(f"\n{aligned(table)}\n")
    print(f"report: {page}")
    return page


def main() -> None:
    """Run the command; what the user can mend is told in one sentence, without a traceback."""
    try:
        sys.exit(app(sys.argv[1:] or ["--help"], standalone_mode=False))
    except Exception as error:
        # typer's usage errors have this method; their class is click's or typer's own copy, by version
        if of_the_disk(error):
            print(f"hdarts: {error}", file=sys.stderr)
            sys.exit(CannotWrite.exit_code)
        told = error if isinstance(error, ParameterError) else getattr(error, "format_message", lambda: None)()
        if told is None:
            raise
        print(f"hdarts: {told}", file=sys.stderr)
        sys.exit(2)

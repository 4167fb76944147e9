"""The commands `hdarts run`, `status` and `report`."""

import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import chdir, closing, contextmanager
from functools import partial
from pathlib import Path

from hdarts.errors import ParameterError, Stopped
from hdarts.params import read_yaml
from hdarts.runs.limits import cores
from hdarts.runs.lock import exclusive
from hdarts.runs.paths import runs_folder, workbook_of
from hdarts.runs.run import NEWEST, PREVIOUS, tidy
from hdarts.runs.signals import end_at_once, on_request
from hdarts.workbook.cluster import Cluster, read_cluster, require_queue, run_on_cluster
from hdarts.workbook.formatting import format_table
from hdarts.workbook.study import Plan, PlannedRun, changes, plan_study, record_plan, runner
from hdarts.workbook.study.status import LiveTable, counts, show


def run(study: Path, jobs: int, engine: str, scheduler: str, cluster: Path | None, dry_run: bool, scale: str) -> int:
    """Run what is missing of a study, write its report, and return the highest exit code of its runs."""
    cluster = cluster and cluster.absolute()
    with in_workbook_of(study) as study:
        return _run_study(study, jobs, engine, scheduler, cluster, dry_run, scale)


def _run_study(
    study: Path, jobs: int, engine: str, scheduler: str, cluster: Path | None, dry_run: bool, scale: str
) -> int:
    from hdarts.workbook.study.images import refuse_changed_images
    from hdarts.workbook.study.preflight import announce_slow_kernels, preflight

    plan = plan_study(study, scale=scale)
    if (scheduler or cluster) and engine == "local":
        raise ParameterError("--scheduler and --cluster require --engine dask")
    if jobs < 0:
        raise ParameterError(f"--jobs {jobs}: give a number of runs at a time, or 0 for one per core")
    workers = read_cluster(plan.study.cluster, cluster, scheduler) if engine == "dask" else None
    if workers:
        require_queue(workers)
    before = _outcomes(plan)
    refuse_changed_images(run for run in plan.runs if before[run.name].state == "done")
    todo = [run for run in plan.runs if before[run.name].state != "done"]
    told = preflight(todo, plan.runs, download=not dry_run, here=engine == "local") if todo else []
    if todo and engine == "local":
        announce_slow_kernels(todo)
    _print_place()
    print("".join(f"{line}\n" for line in told), end="")
    if dry_run:
        if changed := changes(plan):
            print(changed)
        _list(plan)
        _estimate(plan, jobs or min(8, cores()))
        return 0
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
            return Stopped.exit_code
        print(_table(plan, bad))
        for done in (run for run in plan.runs if run.name not in bad):
            _remove_left_checkpoints(done)
        _report(plan)
    return max((outcome.code for outcome in bad.values()), default=0)


def status(study: Path, scale: str) -> None:
    """Print the progress of a study, from its run folders."""
    with in_workbook_of(study) as study:
        plan = plan_study(study, scale=scale)
        _print_place()
        outcomes = _outcomes(plan)
        show(plan, {name: outcome.state for name, outcome in outcomes.items()})
    for name, outcome in outcomes.items():
        if outcome.state == "failed":
            print(f"failed: {name}: {outcome.error}")


def report(study: Path, scale: str, pdf: bool) -> None:
    """Write the report of a study, also as PDF if wanted."""
    from hdarts.workbook.page.report.pdf import browser, write_pdf

    with in_workbook_of(study) as study:
        plan = plan_study(study, scale=scale)
        if pdf:
            browser()  # refuses before anything is written
        _print_place()
        page = _report(plan)
        if pdf and page is not None:
            print(f"printed: {write_pdf(page)}")


@contextmanager
def in_workbook_of(study: Path) -> Iterator[Path]:
    """Inside, the working folder is the workbook of a study, so that its paths mean the same from everywhere.

    Yields the path of the study. Folders that the environment names stay those of the command line.
    """
    if not study.is_file():
        raise ParameterError(f"{study}: no such file in the working folder {Path.cwd()}")
    root, path = workbook_of(study), study.absolute()
    named = {name: os.environ[name] for name in ("HDARTS_RUNS", "HDARTS_DATA", "HDARTS_CACHE") if os.environ.get(name)}
    if Path.cwd().is_relative_to(root) and path.is_relative_to(root):
        path = path.relative_to(root)
    os.environ.update({name: str(Path(folder).expanduser().absolute()) for name, folder in named.items()})
    try:
        with chdir(root):
            yield path
    finally:
        os.environ.update(named)


def _print_place() -> None:
    print(f"runs folder: {runs_folder()}", flush=True)


def _remove_left_checkpoints(run: PlannedRun) -> None:
    """Remove the checkpoints of a run whose kernel was killed right after its result; what it was to keep stays."""
    left = any((run.folder / name).exists() for name in (NEWEST, PREVIOUS))
    if left and not read_yaml(run.folder / "params.yaml").get("keep_checkpoint", True):
        tidy(run.params, run.folder)


def _stop(table: LiveTable, number: signal.Signals) -> None:
    table.announce(f"hdarts: {number.name}: runs save and exit; a second signal ends them at once")
    raise Stopped("stopped; the same command resumes from here")


Ends = Generator[tuple[PlannedRun, runner.Outcome], None, None]


def _engine(plan: Plan, jobs: int, cluster: Cluster | None) -> tuple[str, Callable[[], Ends]]:
    """Return where the runs of a study are computed, in words, and the generator of their outcomes."""
    if cluster is not None:
        return f"by workers of kind {cluster.kind}", partial(run_on_cluster, plan, cluster)
    at_once = jobs or min(8, cores())
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
        name, error = Path(run.name).name, outcome.error[:100]
        rows.append({"stage": run.stage, "run": name, "state": outcome.state, "seconds": seconds, "error": error})
    return format_table(rows)


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
    from hdarts.workbook.study.estimate import TOTAL, estimate

    print(f"\nmeasuring steps on this machine, for {TOTAL} s at most", flush=True)
    try:
        result = estimate(plan.runs, jobs)
    except ParameterError as error:
        return print(f"no estimate: {error}")
    except KeyboardInterrupt:
        return print("no estimate: interrupted")
    print("\n".join(["", format_table(result.table.to_dict("records")), "", *result.notes]))


def _report(plan: Plan) -> Path | None:
    from hdarts.workbook.page import write_missing_pages
    from hdarts.workbook.page.report import write_report

    outcomes = _outcomes(plan)
    write_missing_pages(run.folder for run in plan.runs if outcomes[run.name].state == "done")
    page, table = write_report(plan, outcomes)
    if page is None:
        print("no run is done yet, so there is no report")
        return None
    if table is not None:
        print(f"\n{format_table(table.to_dict('records'))}\n")
    print(f"report: {page}")
    return page

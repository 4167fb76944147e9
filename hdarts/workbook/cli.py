"""The command `hdarts`: run a study, show its progress, write its report, use the networks it found.

Exit codes: 0 all done; 1 a run failed or is blocked; 2 bad input, explained in one sentence; 71 a run is out of memory;
73 the runs folder cannot be written; 75 stopped by a signal, and the same command resumes; 128 + the number of a second
signal, which ends it at once. The highest one counts.

Each command imports what it uses, so that the help appears at once.
"""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hdarts.errors import CannotWrite, OutOfMemory, ParameterError, Stopped, of_the_disk

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="a study, such as params/studies/quick.yaml")]
Scale = Annotated[str, typer.Option(help="a scale of the study, such as mini")]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

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
    from hdarts.workbook import commands

    raise typer.Exit(commands.run(study, jobs, engine, scheduler, cluster, dry_run, scale))


@app.command()
def status(study: StudyFile, scale: Scale = "full") -> None:
    """Show the progress of a study: runs, stages, failures. Reads the run folders, so it works on any host."""
    from hdarts.workbook import commands

    commands.status(study, scale)


@app.command()
def report(
    study: StudyFile,
    scale: Scale = "full",
    pdf: Annotated[bool, typer.Option("--pdf", help="also print it to report.pdf, with Chromium or Chrome")] = False,
) -> None:
    """Write the report of a study, an HTML page. It shows the runs done so far."""
    from hdarts.workbook import commands

    commands.report(study, scale, pdf)


@app.command()
def leaderboard(
    folders: Annotated[list[str], typer.Argument(metavar="FOLDER...", help="below runs/, such as nasbench201")],
    page: Annotated[Path | None, typer.Option(help="also replace the table of a page: docs/leaderboard.md")] = None,
    epochs: Annotated[Path | None, typer.Option(help="also write the cell of every epoch to this CSV file")] = None,
) -> None:
    """Rank searches of NAS-Bench-201 by the true accuracies of their cells. Reads the run folders."""
    from hdarts.workbook.analysis.leaderboard import every_epoch, leaderboard
    from hdarts.workbook.formatting import write_output

    print(leaderboard(folders, page), end="")
    if epochs is not None:
        write_output("--epochs", epochs, every_epoch(folders).to_csv(index=False))


@app.command()
def batch_size(
    parameters: Annotated[Path, typer.Argument(metavar="PARAMS.yaml", help="of notebook 03: params/search/*.yaml")],
) -> None:
    """Propose a batch size that fits into memory. Measures steps of a search on this machine."""
    from hdarts.workbook.study.batch_size import propose_batch_size

    print(propose_batch_size(parameters))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def evaluate(
    parameters: Annotated[Path, typer.Argument(metavar="PARAMS.yaml [-p NAME VALUE]...", help="as for notebook 06")],
    context: typer.Context,
) -> None:
    """Train and test one network. Runs in one process, or in several (torchrun ... -m hdarts evaluate ...)."""
    from hdarts.params import EvaluateParams

    _run_file(EvaluateParams, parameters, context)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def search(
    parameters: Annotated[Path, typer.Argument(metavar="PARAMS.yaml [-p NAME VALUE]...", help="as for notebook 03")],
    context: typer.Context,
) -> None:
    """Search one architecture. Runs in one process, or in several (torchrun ... -m hdarts search ...)."""
    from hdarts.params import SearchParams

    _run_file(SearchParams, parameters, context)


def _run_file(model: Any, parameters: Path, context: typer.Context) -> None:
    from hdarts.workbook.run_file import run_file

    try:
        run_file(model, parameters, context.args)
    except (Stopped, OutOfMemory) as fault:
        print(f"hdarts: {fault}", file=sys.stderr)
        raise typer.Exit(fault.exit_code) from None


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a new or empty folder")],
) -> None:
    """Start a workbook in a new folder. Copies the notebooks and parameter files into it."""
    from hdarts.workbook.init import start

    start(folder)
    print(f"{folder}: has the notebooks and parameters; next: cd {folder} && hdarts run params/studies/tiny.yaml")


@app.command()
def doctor() -> None:
    """Show what hdarts finds here: versions, threads, memory, GPUs, compiled kernels, data and caches."""
    from hdarts.workbook.doctor import findings  # imports torch

    for topic, found in findings().items():
        print(f"{topic}: {found}")


@app.command()
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="an evaluation: name below runs/, or folder")],
    to: Annotated[Path | None, typer.Option(help="folder to write; default: export in the run folder")] = None,
) -> None:
    """Export the trained network of an evaluation. Writes safetensors, JSON and ONNX, with a model card."""
    from hdarts.workbook.export import export

    written = export(run, to)
    error = written.difference
    check = "not checked, onnxruntime is not installed" if error is None else f"checked, logits within {error:.1g}"
    print(f"export: {written.folder} (ONNX {check})")


@app.command()
def predict(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="a folder that `hdarts export` wrote")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="files, folders, quoted patterns '*.png'")],
    top: Annotated[int, typer.Option(help="classes per image")] = 3,
    form: Annotated[str, typer.Option("--format", help="text, csv or json; default: by the suffix of --output")] = "",
    output: Annotated[Path | None, typer.Option(help="file to write, such as predictions.csv; default: print")] = None,
    batch_size: Annotated[int, typer.Option(help="images that the network reads at a time")] = 64,
) -> None:
    """Print the most likely classes of images. Exit code 1 if an image cannot be read."""
    from hdarts.workbook.export.outputs import predict_to

    raise typer.Exit(predict_to(export, images, top, form, output, batch_size))


@app.command()
def convert_benchmark(
    official: Annotated[Path, typer.Argument(metavar="NATS-tss", help="the official file, or its unpacked folder")],
    output: Annotated[Path | None, typer.Option(help="Parquet file to write; default: in the data folder")] = None,
) -> None:
    """Convert the official table of NAS-Bench-201. Needs its package, nats_bench."""
    from hdarts.workbook.convert_benchmark import convert_benchmark

    print(convert_benchmark(official, output))


def _give_a_home() -> None:
    """Give this process and those that it starts a home folder and a user name, if its user id has none.

    Containers run with such ids; Jupyter, matplotlib and PyTorch look for both.
    """
    import getpass
    import os
    import tempfile

    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.mkdtemp(prefix="hdarts-home-")
        print(f"notice: this user has no home folder; it is {os.environ['HOME']}", file=sys.stderr)
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = "hdarts"


def main() -> None:
    """Run the command; print errors that the user can fix as one sentence, without a traceback."""
    _give_a_home()
    try:
        sys.exit(app(sys.argv[1:] or ["--help"], standalone_mode=False))
    except Exception as error:
        if of_the_disk(error):
            from hdarts.runs.paths import runs_folder

            of_runs = str(runs_folder()) in str(error) and "HDARTS_RUNS" not in str(error)
            way_out = "; HDARTS_RUNS names another runs folder" if of_runs else ""
            print(f"hdarts: {error}{way_out}", file=sys.stderr)
            sys.exit(CannotWrite.exit_code)
        # typer's usage errors have this method; their class is click's or a copy of it, depending on the version
        message = error if isinstance(error, ParameterError) else getattr(error, "format_message", lambda: None)()
        if message is None:
            raise
        print(f"hdarts: {message}", file=sys.stderr)
        sys.exit(2)

"""C files are compiled once and cached; where that fails, PyTorch computes the same and the reason is printed once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hdarts.kernels import bindings, compiler
from hdarts.kernels.bindings import kernels_used
from hdarts.kernels.compiler import CannotCompile, library
from hdarts.kernels.output_layer import SegmentedLinear

SOURCE = "int answer(void) { return NUMBER; }\n"
NAMES = ("depthwise", "separable", "pooling", "nasbench201_edges", "output_layer", "partial_channels")
needs_compiler = pytest.mark.skipif(shutil.which(os.environ.get("CC", "cc")) is None, reason="no C compiler here")
needs_clang = pytest.mark.skipif(shutil.which("clang") is None, reason="no clang here")
COMPILERS = [pytest.param("cc", marks=needs_compiler), pytest.param("clang", marks=needs_clang)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HDARTS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(bindings, "_loaded", {})
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "small.c"
    path.write_text(SOURCE)
    return path


def answer(source, number) -> int:
    return library(source, NUMBER=str(number)).answer()


def libraries(cache) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in cache.glob("*.so")}


@needs_compiler
def test_a_file_is_compiled_once_per_definitions_and_cached(source, cache):
    assert answer(source, 42) == 42
    assert answer(source, 7) == 7
    kept = libraries(cache)
    assert len(kept) == 2
    assert answer(source, 42) == 42
    assert libraries(cache) == kept
    source.write_text(SOURCE.replace("NUMBER", "1 + NUMBER"))
    assert answer(source, 42) == 43


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("real", "lanes"), [("float", 16), ("double", 4)])
@pytest.mark.parametrize("cc", COMPILERS)
def test_the_files_of_the_package_compile_without_a_warning(name, real, lanes, cc, tmp_path):
    path = Path(compiler.__file__).with_name(f"{name}.c")
    flags = [*compiler.FLAGS, *compiler.PROCESSOR, "-O0", "-fopenmp", "-Wall", "-Wextra", "-Werror"]
    command = [cc, *flags, f"-DREAL={real}", f"-DV={lanes}"]
    built = subprocess.run([*command, "-c", str(path), "-o", tmp_path / "compiled.o"], capture_output=True, text=True)
    assert built.stderr == ""


@needs_compiler
def test_processes_that_start_together_compile_once(source, tmp_path):
    (tmp_path / "cc").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nsleep 0.2\nexec cc "$@"\n')
    (tmp_path / "cc").chmod(0o755)
    code = "import pathlib, sys, hdarts.kernels.compiler as c; c.library(pathlib.Path(sys.argv[1]), NUMBER='5')"
    environment = {**os.environ, "CC": str(tmp_path / "cc")}
    started = [subprocess.Popen([sys.executable, "-c", code, source], env=environment) for _ in range(8)]
    assert [process.wait(60) for process in started] == [0] * 8
    calls = (tmp_path / "calls").read_text().splitlines()
    assert sum(" -c " in call for call in calls) == 1 and len(calls) == 8 + 2  # each reads the version


def bits() -> str:
    """The result of a kernel with two threads, bit for bit, and how many OpenMP libraries this process has loaded."""
    layer, draw = SegmentedLinear((37, 11), 30), torch.Generator().manual_seed(0)
    w, g = (torch.randn(n, generator=draw) for n in (layer.n_parameters, layer.rows))
    paths = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    libraries = sum("omp.so" in path or "omp5.so" in path for path in paths)
    return f"{float(layer.vjp(w, g).double().norm()).hex()} {kernels_used()['compiled']} {libraries}"


@needs_compiler
@needs_clang
def test_both_compilers_compute_the_same_bits_with_and_without_openmp(monkeypatch, capsys):
    """There is none for clang beside torch's libgomp, unless a libomp is in the process, as on a Mac."""
    libomp = sorted(Path("/usr/lib").glob("llvm-*/lib/libomp.so"))
    if not libomp:
        pytest.skip("no libomp here")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with_gcc = bits()
    assert "output_layer" in with_gcc and with_gcc.endswith(" 1"), "no OpenMP library but torch's"
    monkeypatch.setenv("CC", "clang")
    bindings._loaded.clear()
    assert bits() == with_gcc
    assert "use one thread" in capsys.readouterr().err
    code = "import torch; torch.set_num_threads(2); from kernels.test_compiler import bits; print(bits())"
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    environment = {**os.environ, "LD_PRELOAD": str(libomp[0]), "PYTHONPATH": paths}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert run.stdout == f"{with_gcc[:-1]}2\n" and run.stderr == ""


FAULTS = {
    "no compiler": ("CC", "no-such-compiler", "there is no C compiler 'no-such-compiler'; install gcc or clang"),
    "not a compiler": ("CC", "false", "the C compiler false cannot be started"),
    "another processor": ("CC", "cc -mcpu=none", "the C compiler cc cannot compile for this machine"),
    "no folder": ("HDARTS_CACHE", "/proc/none", "/proc/none: No such file or directory; name another folder"),
    "a file": ("HDARTS_CACHE", "a file", "File exists; name another folder in HDARTS_CACHE"),
    "no right to run": ("HDARTS_CACHE", "noexec", "name a folder from which programs may run in HDARTS_CACHE"),
}


@pytest.fixture
def noexec(tmp_path):
    folder = tmp_path / "noexec"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a folder from which nothing runs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@needs_compiler
@pytest.mark.parametrize("what", FAULTS)
def test_what_prevents_compiled_kernels_is_printed_once_with_a_remedy(what, tmp_path, monkeypatch, capsys, request):
    variable, value, message = FAULTS[what]
    if value == "a file":
        (tmp_path / value).touch()
    folder = request.getfixturevalue("noexec") if value == "noexec" else tmp_path / value
    monkeypatch.setenv(variable, value if variable == "CC" or value[0] == "/" else str(folder))
    for name in ("output_layer", "output_layer", "pooling"):
        assert bindings.load_kernel(name, 16, torch.zeros(1)) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("notice: compiled kernels cannot be used") and message in line
    used = kernels_used()
    assert not used["compiled"] and len(used["pytorch"]) == 2 and used["fault"] in line


def test_compilation_can_be_turned_off_without_a_notice(monkeypatch, capsys):
    monkeypatch.setenv("HDARTS_COMPILED", "0")
    assert bindings.load_kernel("output_layer", 16, torch.zeros(1)) is None
    assert capsys.readouterr().err == "" and kernels_used()["fault"] == "HDARTS_COMPILED is 0"


@needs_compiler
def test_the_compiler_may_be_a_command(source, monkeypatch):
    """Such as `ccache gcc`."""
    monkeypatch.setenv("CC", "env cc")
    assert answer(source, 4) == 4


@needs_compiler
def test_a_file_that_does_not_compile_is_an_error_with_its_line(source):
    source.write_text("this is not C")
    with pytest.raises(CannotCompile, match=r"small\.c:1:1: error"):
        library(source, NUMBER="1")


@needs_compiler
def test_a_damaged_library_is_compiled_again(source, cache):
    assert answer(source, 3) == 3
    (kept,) = libraries(cache)
    kept.unlink()
    kept.write_bytes(b"not a library")
    assert answer(source, 3) == 3

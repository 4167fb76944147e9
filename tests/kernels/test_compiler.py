"""C files are compiled once and cached; where that fails, PyTorch's implementation remains."""

import ctypes
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hdarts.kernels import compiler

SOURCE = "#include <omp.h>\nint answer(void) { return NUMBER * (omp_get_max_threads() > 0); }\n"
needs_compiler = pytest.mark.skipif(shutil.which(os.environ.get("CC", "cc")) is None, reason="no C compiler here")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HDARTS_CACHE", str(tmp_path / "cache"))
    compiler.library.cache_clear()
    yield tmp_path / "cache"
    compiler.library.cache_clear()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "small.c"
    path.write_text(SOURCE)
    return path


def answer(source, number) -> int:
    compiled = compiler.library(source, NUMBER=str(number))
    assert compiled is not None
    return compiled.answer()


@needs_compiler
def test_a_file_is_compiled_once_per_definitions_and_cached(source, cache):
    assert answer(source, 42) == 42
    assert answer(source, 7) == 7
    kept = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(kept) == 2 and all(path.suffix == ".so" for path in kept)
    compiler.library.cache_clear()
    assert answer(source, 42) == 42
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == kept
    source.write_text(SOURCE.replace("NUMBER *", "1 + NUMBER *"))
    compiler.library.cache_clear()
    assert answer(source, 42) == 43


@needs_compiler
@pytest.mark.parametrize("name", ["depthwise", "separable", "pooling", "nasbench201_edges", "output_layer"])
@pytest.mark.parametrize(("real", "lanes"), [("float", 16), ("double", 4)])
def test_the_files_of_the_package_compile_without_a_warning(name, real, lanes, tmp_path):
    """If one did not, PyTorch's implementation would be used silently."""
    path = Path(compiler.__file__).with_name(f"{name}.c")
    flags = [*compiler.FLAGS, "-Wall", "-Wextra", "-Werror", f"-DREAL={real}", f"-DV={lanes}"]
    command = [str(compiler.compiler()), *flags, "-DMAX_TERMS=32", "-c", str(path), "-o", str(tmp_path / "compiled.o")]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""


@needs_compiler
def test_concurrent_compilations_all_succeed(source, cache):
    with ThreadPoolExecutor(4) as pool:
        libraries = list(pool.map(lambda _: compiler.library.__wrapped__(source, NUMBER="5"), range(4)))
    assert all(one is not None and one.answer() == 5 for one in libraries)
    assert [path.suffix for path in cache.iterdir()] == [".so"]


@needs_compiler
def test_no_second_openmp_library_is_loaded(source):
    library = compiler.library(source, NUMBER="1")
    assert isinstance(library, ctypes.CDLL)
    (kept,) = compiler.cache_folder().iterdir()
    assert b"libgomp" not in kept.read_bytes()


def test_without_a_compiler_the_library_is_none(source, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    assert compiler.library(source, NUMBER="1") is None


def test_compilation_can_be_turned_off(source, monkeypatch):
    monkeypatch.setenv("HDARTS_COMPILED", "0")
    assert compiler.library(source, NUMBER="1") is None


@needs_compiler
def test_the_library_is_none_if_the_file_does_not_compile(source):
    source.write_text("this is not C")
    assert compiler.library(source, NUMBER="1") is None


@needs_compiler
def test_the_library_is_none_if_the_cache_cannot_be_written(source, cache):
    cache.write_text("a file where the folder should be")
    assert compiler.library(source, NUMBER="1") is None


@needs_compiler
def test_a_damaged_library_is_compiled_again(source, cache):
    assert compiler.library(source, NUMBER="3") is not None
    (kept,) = cache.iterdir()
    kept.unlink()
    kept.write_bytes(b"not a library")
    compiler.library.cache_clear()
    assert answer(source, 3) == 3

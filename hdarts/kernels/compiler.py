"""C files of this package, compiled on first use and cached.

Libraries are cached in `$HDARTS_CACHE` (default: `hdarts` in the user's cache folder) under a hash of all they depend
on: source and headers, definitions, compiler and processor. `HDARTS_COMPILED=0` turns compilation off.
"""

import contextlib
import ctypes
import errno
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}  # of some network file systems
# no -ffast-math: nan and infinity have to propagate
FLAGS = ["-O3", "-std=gnu11", "-fno-math-errno", "-fPIC", "-Wno-psabi"]
# clang for arm64 knows no -march=native; Apple's chooses the processor itself
PROCESSOR = {"arm64": [], "aarch64": ["-mcpu=native"]}.get(platform.machine(), ["-march=native"])


class CannotCompile(Exception):
    """A C file cannot be compiled or loaded; the message says why and what helps."""


class TurnedOff(CannotCompile):
    """The user turned compilation off."""


class Compiler(NamedTuple):
    """A C compiler: its command, the text of its version, and the flags of parallel loops ([]: one thread)."""

    command: tuple[str, ...]
    version: str
    openmp: list[str]

    @property
    def flags(self) -> list[str]:
        return [*FLAGS, *PROCESSOR, *self.openmp]


def cache_folder() -> Path:
    """Return the folder of compiled libraries."""
    if folder := os.environ.get("HDARTS_CACHE"):
        return Path(folder)
    return user_cache() / "hdarts"


def user_cache() -> Path:
    """Return the user's cache folder; a user id without a name has no home folder, and caches in the temporary one."""
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"cache-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


def find_compiler() -> Compiler:
    """Return the C compiler, `$CC` (a command such as `ccache gcc`), else `cc`; raise `CannotCompile`."""
    if os.environ.get("HDARTS_COMPILED") == "0":
        raise TurnedOff("HDARTS_COMPILED is 0")
    if sys.platform == "win32":
        raise CannotCompile("on Windows there are none; WSL has them")
    cc = os.environ.get("CC") or "cc"
    command = (cc,) if shutil.which(cc) else tuple(cc.split())
    if not command or shutil.which(command[0]) is None:
        raise CannotCompile(f"there is no C compiler {cc!r}; install gcc or clang, or name one in CC")
    return _described(command)


@cache
def _described(command: tuple[str, ...]) -> Compiler:
    version = _run([*command, "--version"], "cannot be started")
    return Compiler(command, version, _openmp("clang" in version))


def _openmp(clang: bool) -> list[str]:
    """Return the flags of parallel loops, [] where the OpenMP library of torch is not one for this compiler.

    A second library would compete with torch's for the cores, so libraries are linked with none and find torch's: GCC
    needs libgomp, clang libomp. `-Xclang` because Apple's clang has no option `-fopenmp`.
    """
    torch = importlib.util.find_spec("torch")
    for path in Path(str(torch and torch.origin)).parent.glob("lib/lib*omp[.5-]*"):
        with contextlib.suppress(OSError):
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    if not hasattr(ctypes.CDLL(None), "__kmpc_fork_call" if clang else "GOMP_parallel"):
        return []
    return ["-Xclang", "-fopenmp"] if clang else ["-fopenmp"]


def library(source: Path, **definitions: str) -> ctypes.CDLL:
    """Return a C file compiled with `-Dname=value`, by one process if several start; raise `CannotCompile`."""
    cc = find_compiler()
    command = [*cc.command, *cc.flags, *(f"-D{name}={value}" for name, value in sorted(definitions.items()))]
    target = cache_folder() / f"{source.stem}-{_digest(source, command, cc.version)}.so"
    with contextlib.suppress(OSError):  # missing or damaged: compile it
        return ctypes.CDLL(str(target), mode=os.RTLD_NOW)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(FileLock(target.with_suffix(".lock")))
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise  # without locks several processes may compile: `_build` replaces the file in one step
            with contextlib.suppress(OSError):  # compiled by another process meanwhile
                return ctypes.CDLL(str(target), mode=os.RTLD_NOW)
            _build(list(cc.command), [*command, "-c", str(source)], target)
    except OSError as error:
        fault = f"{target.parent}: {error.strerror or error}"
        raise CannotCompile(f"{fault}; name another folder in HDARTS_CACHE") from None
    try:
        return ctypes.CDLL(str(target), mode=os.RTLD_NOW)
    except OSError as error:
        advice = "name a folder from which programs may run in HDARTS_CACHE, or a compiler for this machine in CC"
        raise CannotCompile(f"a compiled file cannot be loaded ({error}); {advice}") from None


def _digest(source: Path, command: list[str], version: str) -> str:
    processor = platform.machine() + platform.processor()
    if (described := Path("/proc/cpuinfo")).is_file():
        lines = described.read_text(errors="replace").splitlines()
        processor += "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model"))}))
    parts = [path.read_bytes() for path in (source, *sorted(source.parent.glob("*.h")))]
    parts += [text.encode() for text in (" ".join(command), version, processor)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _build(compiler: list[str], command: list[str], target: Path) -> None:
    """Compile next to the target and rename: another process sees the whole library or none."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        compiled, linked = Path(folder) / "compiled.o", Path(folder) / "linked.so"
        _run([*command, "-o", str(compiled)], "cannot compile for this machine")
        late = ["-Wl,-undefined,dynamic_lookup"] if sys.platform == "darwin" else []
        _run([*compiler, "-shared", *late, "-o", str(linked), str(compiled)], "cannot link for this machine")
        linked.replace(target)


def _run(command: list[str], fault: str) -> str:
    """Return the output of a compiler, or raise `CannotCompile` with its first error."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, errors="replace").stdout
    except (OSError, subprocess.SubprocessError) as error:
        lines = str(getattr(error, "stderr", "") or error).splitlines()
        first = next((line for line in lines if "error" in line.lower()), lines[0])
        raise CannotCompile(f"the C compiler {command[0]} {fault} ({first}); name another in CC") from None

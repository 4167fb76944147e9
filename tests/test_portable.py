"""Every module can be imported without what only Unix has: signals, modules and functions of the system."""

import json
import subprocess
import sys

from helpers import ROOT

# what libraries need is imported before; only hdarts meets the lack
WITHOUT_UNIX = """
import importlib, json, os, pkgutil, signal, sys, warnings
import distributed, ipykernel.kernelapp, jupyterlab, nbconvert, pandas, papermill, seaborn, sklearn, torch, torchvision

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in ("fcntl", "resource"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Absent())
for owner, names in ((signal, ("SIGUSR1", "SIGUSR2", "SIGKILL", "SIGHUP", "SIGALRM")),
                     (os, ("sched_getaffinity", "setsid", "fork", "getuid", "geteuid", "killpg", "RTLD_NOW"))):
    for name in names:
        if hasattr(owner, name):
            delattr(owner, name)
warnings.simplefilter("ignore")  # filelock says that it has no lock of the system
import hdarts
failed = {}
for module in pkgutil.walk_packages(hdarts.__path__, "hdarts."):
    if module.name != "hdarts.__main__":
        try:
            importlib.import_module(module.name)
        except Exception as error:
            failed[module.name] = repr(error)
from hdarts.params import SearchParams
from hdarts.runs import limits, memory, signals
from hdarts.runs.lock import exclusive
from pathlib import Path
with signals.on_request(print), exclusive(Path(sys.argv[1])):
    limits.cores(), memory.peak_memory("cpu")
print(json.dumps(failed))
"""


def test_every_module_can_be_imported_and_locks_work_without_unix(tmp_path) -> None:
    command = [sys.executable, "-c", WITHOUT_UNIX, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {}

"""Put the notebooks and parameter files of the checkout into the wheel; the rest is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithWorkbook(build_py):
    """Copy `notebooks/` and `params/` next to `hdarts.workbook`, from where `hdarts init` copies them."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for name in ("notebooks", "params"):
                target = Path(self.build_lib) / "hdarts" / "workbook" / name
                shutil.copytree(name, target, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)


setup(cmdclass={"build_py": WithWorkbook})

"""The report as a PDF, printed by an installed browser."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from hdarts.errors import ParameterError
from hdarts.runs.atomic import write_atomic

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ELSEWHERE = ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",)
LONGEST = 180  # seconds for printing


def browser() -> str:
    """Return the path of Chromium or Chrome; raise `ParameterError` if there is none."""
    if path := next(filter(None, map(shutil.which, (*NAMES, *ELSEWHERE))), None):
        return path
    raise ParameterError(
        "--pdf prints with Chromium or Chrome, and neither is installed (Debian: apt-get install chromium); "
        "any browser can print report.html as well"
    )


def write_pdf(page: Path) -> Path:
    """Print `page` to a PDF of the same name next to it and return its path."""
    command = [browser(), "--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--no-sandbox")  # Chromium cannot run as root with a sandbox; it opens only our page
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        printed = Path(folder) / "printed.pdf"
        command += [f"--user-data-dir={folder}/profile", "--no-pdf-header-footer", f"--print-to-pdf={printed}"]
        try:
            subprocess.run([*command, page.as_uri()], capture_output=True, timeout=LONGEST, check=False)
        except subprocess.TimeoutExpired:
            raise ParameterError(f"{command[0]} did not print {page} in {LONGEST} s") from None
        if not printed.exists():
            raise ParameterError(f"{command[0]} did not print {page}; print it from a browser window instead")
        write_atomic(page.with_suffix(".pdf"), printed.read_bytes())
    return page.with_suffix(".pdf")

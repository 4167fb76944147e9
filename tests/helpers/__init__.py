"""What several tests share: small problems, small runs, small studies, a browser, planted faults."""

from pathlib import Path

ROOT = Path(__file__).parents[2]

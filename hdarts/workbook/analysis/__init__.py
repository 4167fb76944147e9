"""From run folders to tables, statistics and diagnostics."""

from typing import Any

Row = dict[str, Any]  # of a table

"""Timed things: hdarts against a plain version of itself. `python -m benchmarks` prints the table and writes it."""

"""Timings of hdarts against a plain version of itself. `python -m benchmarks` prints and writes the table."""

"""Compiled kernels: each C file, the Python function that calls it, and the same function in PyTorch."""

"""Computations of notebooks 01 and 02: hypergradients and hypernetworks where the answer is known, as tables."""

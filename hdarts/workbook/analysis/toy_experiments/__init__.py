"""Computations of notebooks 01, 02 and 11: hypergradients and hypernetworks where the answer is known, as tables."""

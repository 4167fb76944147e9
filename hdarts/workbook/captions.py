"""Titles of the tables of notebook 07, and the captions of its figures that do not depend on the study."""

from hdarts import plots

# figures of the thesis that show the cells of these arms
CELLS = {
    "darts-second": 25,
    "batch-32": 26,
    "batch-48-rate-2": 28,
    "hyperdarts-1": 29,
    "sigmoid": 33,
    "hyperdarts-2": 34,
}
TITLES = {
    "results": "Results, one row per arm",
    "differences": "Each arm minus the first, over pairs of searches with the same seed",
    "primary": "Primary comparisons: the first arm minus the second, points of true accuracy",
    "decided": "Had the searches decided? One row per arm",
    "truth": "True accuracy of the cells (per cent), one row per arm; collapsed: no path has a convolution",
    "rankings": "Kendall's tau between a ranking of cells and their true accuracy",
    "fidelity": "Kendall's tau of rankings of cells with their true accuracy, regret (points), and cost",
    "agreement": "Agreement with the reference, means over snapshots",
    "classes": "Test accuracy (per cent) of classes by arm, last epoch, means over evaluations",
    "claims": "The thesis's claims: what was run, the result, and the verdict by a stated rule",
    "tests": "All tests of this page, with p and Holm's adjusted p",
    "intervals": "All rows with Student's 95 % t intervals of their means",
    "best_of_n": "Accuracy of the best of n searches, next to that expected of the best of n random cells",
}

# figure, what draws it, a column that it needs, caption
SEARCHES = (
    ("validation_curves", plots.validation_curves, "validation_accuracy",
     "Search-validation accuracy of every search; broad pale line: mean over seeds; grey: the searches of other arms."),
    ("skips", plots.skips_over_epochs, "skips_normal",
     "Skip connections in the normal cell, if the search ended after that epoch."),
    ("entropy", plots.entropy_over_epochs, "epoch",
     "Entropy of the mixture weights: 0 if decided; log(operations), 2.08 nats in DARTS, if all are equal."),
    ("optimisation_gap", plots.discretisation_gap, "discretised_accuracy",
     "Search-validation accuracy of the supernet with the mixture and with the derived cell alone."),
    ("eigenvalue", plots.eigenvalue_over_epochs, "eigenvalue",
     "Dominant eigenvalue of the Hessian of the validation loss in alpha (as in RobustDARTS)."),
)  # fmt: skip
FIGURE_35 = (
    "Test accuracy over the cost of all searches of an arm. Left: the thesis's figure 35, without models for which it "
    "states no accuracy; its accuracies are the best epoch's, chosen on the test set; strokes: the costs that the "
    "papers of these models state, for most half of those in the thesis. Right: accuracies of the last epoch; bars are "
    "sample standard deviations over cells, or over the evaluations of an arm's only cell."
)
FIDELITY = (
    "Kendall's tau of rankings of cells with their true accuracy, over the operations of all trainings of a size, up "
    "to each epoch, or of the search; bands and vertical lines: 95 % intervals (Fisher's z)."
)

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
    "differences": "Each arm less the first, over pairs of searches with the same seed",
    "primary": "Primary comparisons: the first arm minus the second, points of true accuracy",
    "decided": "Had the searches decided? One row per arm",
    "truth": "True accuracy of the cells (per cent), one row per arm; collapsed: nothing learns",
    "rankings": "Kendall's tau between a ranking of cells and their true accuracy",
    "agreement": "Agreement with the reference, means over snapshots",
    "classes": "Test accuracy (per cent) of classes by arm, last epoch, means over evaluations",
    "claims": "The thesis's claims: what was run, the result, and the verdict by a stated rule",
    "tests": "All tests of this page, with p and Holm's adjusted p",
    "intervals": "All rows with Student's 95 % t intervals of their means",
    "best_of_n": "Best of n searches, next to the expected best of n random cells",
}

# figure, what draws it, a column that it needs, caption
SEARCHES = (
    ("validation_curves", plots.validation_curves, "validation_accuracy",
     "Search-validation accuracy of every search; pale: the mean over seeds, grey: the other arms."),
    ("skips", plots.skips_over_epochs, "skips_normal",
     "Skip connections in the normal cell that the search would derive after each epoch."),
    ("entropy", plots.entropy_over_epochs, "epoch",
     "Entropy of the mixture weights: log(operations), 2.08 nats in DARTS, is no preference; 0 is a decision."),
    ("optimisation_gap", plots.discretisation_gap, "discretised_accuracy",
     "Accuracy of the supernet before discretisation and with the discrete cell's operations alone."),
    ("eigenvalue", plots.eigenvalue_over_epochs, "eigenvalue",
     "Dominant eigenvalue of the Hessian of the validation loss in alpha (as in RobustDARTS)."),
)  # fmt: skip
FIGURE_35 = (
    "Test accuracy over the cost of all searches of an arm. Left: the thesis's figure 35, without models for which it "
    "states no accuracy; its accuracies are the best epoch's, chosen on the test set; strokes: the costs that the "
    "models' papers state, half of its costs for most. Right: the last epoch's; bars are sample standard deviations "
    "over cells, or over the evaluations of an arm's only cell."
)

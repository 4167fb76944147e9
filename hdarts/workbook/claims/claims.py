"""The claims of the thesis, each with a few words of its line and the rule that tests it on the runs of a study."""

from dataclasses import dataclass
from functools import partial

from hdarts.workbook.analysis.tables import LAST
from hdarts.workbook.claims.finding import Finding
from hdarts.workbook.claims.interference import less_interference, less_with_capacity, no_interference
from hdarts.workbook.claims.rules import (
    best_setting,
    better_cells,
    comparable,
    correlation,
    difference,
    nearer,
    reduced_until,
    similar,
    trend,
    zero_direct_part,
)


@dataclass(frozen=True)
class Claim:
    """A claim, its line in the thesis with a few words of it, and the rule that takes the evidence of a study."""

    id: str
    text: str
    line: int
    quote: str
    rule: partial[Finding]

    @property
    def arms(self) -> tuple[str, ...]:
        given = self.rule.keywords
        return (*given.get("arms", ()), *given.get("others", ()), *([given["arm"]] if "arm" in given else ()))

    @property
    def of_cells(self) -> bool:
        """Whether the claim is on cells as results of their searches, which mean nothing where these had not decided.

        That cells without skip connection are worse, for example, is a claim on any cells.
        """
        predicts = self.rule.keywords.get("x") == "validation_accuracy"  # of the search, for the test of its cell
        skips = self.rule.keywords.get("of") == "skip_free"
        return predicts or skips or self.rule.func in (better_cells, comparable)


VARIANTS = ("snas", "gdas", "p-darts", "pc-darts", "sdarts-rs", "sdarts-adv", "darts-pt", "darts-minus", "beta-darts")

# fmt: off
CLAIMS = [
    Claim("hd1-cifar10", "hyperDARTS-1 finds better cells than DARTS: test accuracy on CIFAR-10", 957,
        "higher testing accuracies on both CIFAR-10 and CIFAR-100",
        partial(better_cells, arms=("hyperdarts-1", "darts-second"), data="cifar10", stated=0.16)),
    Claim("hd1-cifar100", "hyperDARTS-1 finds better cells than DARTS: test accuracy on CIFAR-100", 958,
        "a higher testing accuracy on CIFAR-100",
        partial(better_cells, arms=("hyperdarts-1", "darts-second"), data="cifar100", stated=1.08)),
    Claim("hd2-cifar10", "hyperDARTS-2 finds better cells than DARTS: test accuracy on CIFAR-10", 1162,
        "higher testing accuracies on both CIFAR-10 and CIFAR-100",
        partial(better_cells, arms=("hyperdarts-2", "darts-second"), data="cifar10", stated=0.22)),
    Claim("hd2-cifar100", "hyperDARTS-2 finds better cells than DARTS: test accuracy on CIFAR-100", 1163,
        "a higher testing accuracy on CIFAR-100",
        partial(better_cells, arms=("hyperdarts-2", "darts-second"), data="cifar100", stated=1.31)),
    Claim("hd1-response",
        "hyperDARTS-1 by equation 22 to the letter (the response alone) finds better cells than DARTS", 598,
        r"\frac{\partial \mathcal{L}_{val}(\mathbf{w}_\phi",
        partial(better_cells, arms=("hyperdarts-1-response", "darts-second"), data="cifar10")),
    Claim("hd2-response",
        "hyperDARTS-2 by equation 22 to the letter (the response alone) finds better cells than DARTS", 598,
        r"\frac{\partial \mathcal{L}_{val}(\mathbf{w}_\phi",
        partial(better_cells, arms=("hyperdarts-2-response", "darts-second"), data="cifar10")),
    Claim("hd2-hd1", "hyperDARTS-2 finds better cells than hyperDARTS-1", 1167,
        "HyperDARTS-2 shows better performance in finding optimal architectures than hyperDARTS-1",
        partial(better_cells, arms=("hyperdarts-2", "hyperdarts-1"), data="cifar10", stated=0.06)),
    Claim("hd1-random", "hyperDARTS-1 finds better cells than random ones", 1237,
        "to find the optmal architecture which achieved testing accuracies of 97.40%",
        partial(better_cells, arms=("hyperdarts-1", "random"), data="cifar10")),
    Claim("hd2-random", "hyperDARTS-2 finds better cells than random ones", 1237,
        "to find the optmal architecture which achieved testing accuracies of 97.46%",
        partial(better_cells, arms=("hyperdarts-2", "random"), data="cifar10")),
    Claim("comparable",
        "hyperDARTS-1 and -2 are comparable to the variants of DARTS: true accuracies differ by at most 0.5 points",
        1171, "comparable improvements to other SOTA DARTS variants",
        partial(comparable, arms=("hyperdarts-1", "hyperdarts-2"), others=VARIANTS, margin=0.5)),
    Claim("combined", "hyperDARTS combined with a variant of DARTS (beta decay) finds better cells than alone", 1171,
        "combine with other SOTA DARTS variants to result in further improvements",
        partial(better_cells, arms=("hyperdarts-1-beta", "hyperdarts-1"), data="cifar10")),
    Claim("validation", "hyperDARTS-1 reaches a higher search-validation accuracy than DARTS", 797,
        "a higher validation accuracy than DARTS during architecture search",
        partial(difference, arms=("hyperdarts-1", "darts-second"), of="validation_accuracy", want="higher")),
    Claim("batch-cost", "A larger batch makes a search shorter", 816,
        "speeds up the search process and reduces the search cost",
        partial(trend, arm="batch-size", over="batch_size", of="seconds", want="lower")),
    Claim("cost", "A search by hyperDARTS-1 costs less than one by DARTS", 1195, "with a lower search cost",
        partial(difference, arms=("hyperdarts-1", "darts-second"), of="seconds", want="lower")),
    Claim("cost-2", "A search by hyperDARTS-2 costs less than one by DARTS", 1165,
        "The search cost also shows minor improvements",
        partial(difference, arms=("hyperdarts-2", "darts-second"), of="seconds", want="lower")),
    Claim("method-1",
        "Method 1 (weights outside the cells are learned directly) is better than method 2 (a hypernetwork "
        "generates them)", 774, "method 1 outperforms method 2",
        partial(difference, arms=("method-1", "method-2"), of="validation_accuracy", want="higher")),
    Claim("batch-accuracy", "At the same learning rates a larger batch finds worse cells", 820,
        "attributed to the increase in batch size",
        partial(trend, arm="batch-size", over="batch_size", of="validation_accuracy", want="lower")),
    Claim("batch-rate", "A larger batch needs larger learning rates", 820,
        "when the batch size is increased, the learning rate should also increase",
        partial(best_setting, arm="rate-and-batch", setting="learning_rate", over="batch_size", want="higher")),
    Claim("epochs", "With more epochs, more normal cells have no skip connection", 900,
        "manually adjusting the number of epochs",
        partial(trend, arm="epochs", over="epochs", of="skip_free", want="higher")),
    Claim("early-stop",
        "Fewer epochs solve the overfitting of hyperDARTS-1: at some number of them up to 49, all searches have skip "
        "connections in the normal cell", 962, "addressed through a simple manual early stopping technique",
        partial(reduced_until, arms=("hyperdarts-1", "fewer-epochs"), over="epochs", of="skip_free")),
    Claim("two-layer", "Two-layer linear hypernetworks overfit: more normal cells without skip connections", 1049,
        "2-layer linear hypernetworks is susceptible to overfitting",
        partial(difference, arms=("two-layer", "hyperdarts-1"), of="skip_free", want="higher")),
    Claim("sigmoid", "Of the activation functions sigmoid is the best", 1064,
        "Sigmoid shows the best validation accuracy",
        partial(difference, arms=("sigmoid", "tanh", "relu"), of="validation_accuracy", want="higher")),
    Claim("embedding",
        "Embedding hypernetworks are too slow: a search takes at least 1.4 times as long as hyperDARTS-1's (in "
        "the thesis 1.7 times), if one basic kernel is generated after another", 1010, "exceptionally high search cost",
        partial(difference, arms=("embedding-sequential", "hyperdarts-1"), of="seconds", want="higher", margin=-0.5)),
    Claim("embedding-products", "So are they if the basic kernels of one size are generated by one matrix product",
        1010, "must sequentially output the weights for each basic kernel",
        partial(difference, arms=("embedding", "hyperdarts-1"), of="seconds", want="higher", margin=-0.5)),
    Claim("direct", "The direct part of hyperDARTS's hypergradient is 0", 596, "the direct gradient in eq. 21 is 0",
        partial(zero_direct_part, arms=("hyperdarts-1", "hyperdarts-2"))),
    Claim("direct-darts", "The direct part of DARTS's hypergradient is usually 0", 347, "is usually 0",
        partial(zero_direct_part, arms=("darts-second",))),
    Claim("selection", "Validation accuracy of the search predicts test accuracy of the cell", 818,
        "positive correlation between validation accuracies during cell search and testing accuracies",
        partial(correlation, x="validation_accuracy", y=LAST, want="higher")),
    Claim("skips", "Cells without skip connection in the normal cell are worse", 894,
        "identified as overfitted (without conducting architecture evaluation) if there is no skip connection",
        partial(correlation, x="skip_free", y=LAST, want="lower")),
    Claim("flat", "The landscape of hyperDARTS-2 is flatter than that of hyperDARTS-1", 1167,
        "seems to be flatter around the true solution",
        partial(difference, arms=("hyperdarts-2", "hyperdarts-1"), of="eigenvalue", want="lower")),
    Claim("error",
        "hyperDARTS eliminates the approximation error of the hypergradient: what is left is within the "
        "reference's own uncertainty", 1195, "eliminates the approximation error in DARTS",
        partial(nearer, arms=("hyperdarts-1", "hyperdarts-2"), method="hypernetwork", than="half the reference",
                want="lower")),
    Claim("nearer", "The hypergradient of hyperDARTS is nearer to the true one than the approximation of DARTS", 419,
        "removing the approximation scheme and approximation error in DARTS",
        partial(nearer, arms=("hyperdarts-1", "hyperdarts-2"), method="hypernetwork", than="DARTS (finite difference)",
                want="lower")),
    Claim("noise",
        "Noise from alpha's trajectory performs similarly to normal noise: search-validation accuracies differ by at "
        "most 0.5 points, either way", 625, "perform similarly to normal distribution",
        partial(similar, arms=("hyperdarts-1", "hyperdarts-noise"), of="validation_accuracy", margin=0.5)),
    Claim("capacity",
        "Both hypernetworks model w locally: a supernet with generated weights is at most 1 point of search-validation "
        "accuracy below one with learned weights", 1195, "both provide sufficient capacities to model",
        partial(difference, arms=("darts-second", "hyperdarts-1", "hyperdarts-2"), of="validation_accuracy",
                want="lower", margin=1.0)),
    Claim("interference",
        "There is less interference between architectures than with shared weights: discretisation costs less "
        "accuracy", 1227, "hyperDARTS should have a less severe model interference issue",
        partial(difference, arms=("hyperdarts-1", "darts-second"), of="drop", want="lower")),
    Claim("interference-local",
        "Hypernetworks model w locally with enough accuracy for a less severe model interference: the weights that one "
        "learns along alpha's trajectory are nearer to a cell's own optimum than shared weights",
        1227, "hyperDARTS should have a less severe model interference issue",
        partial(less_interference, sources=("trajectory, w at its alpha", "trajectory, w at the cell"),
                than="shared weights")),
    Claim("interference-global",
        "Hypernetworks model w globally with enough accuracy to eliminate model interference: the excess loss of a "
        "cell is below the distance of two trainings of that cell alone", 1227,
        "the model interference issue can be eliminated",
        partial(no_interference, sources=("global MLP", "global graph"))),
    Claim("interference-capacity", "Model interference is reduced by increasing hypernetwork capacity", 1227,
        "by increasing hypernetwork capacity", partial(less_with_capacity)),
    Claim("interference-graph",
        "The supernet's weights have a graph nature: a graph hypernetwork models those of cells better than a "
        "perceptron of the same width", 1229, "the hypernetwork output (a.k.a the supernet weights) has a graph nature",
        partial(less_interference, sources=("global graph",), than="global MLP")),
    Claim("graph", "Graph neural networks in place of perceptrons improve hyperDARTS: it finds better cells", 1229,
        "Replacing the hypernetworks with graph neural networks might improve hyperDARTS performance",
        partial(better_cells, arms=("hyperdarts-graph", "hyperdarts-2"), data="cifar10")),
    Claim("capacity-2",
        "The perceptrons of hyperDARTS-2 model w more accurately than the linear hypernetworks of hyperDARTS-1: the "
        "supernet's search-validation accuracy is higher", 1167,
        "to be modelled more accurately compared to hyperDARTS-1",
        partial(difference, arms=("hyperdarts-2", "hyperdarts-1"), of="validation_accuracy", want="higher")),
    Claim("schedule",
        "Half way through a schedule of 100 epochs, accuracy is lower than after one of 50: the schedule, not "
        "the epochs", 902, "the model reaches only around 86% in validation accuracy at epoch 50",
        partial(difference, arms=("schedule-50", "schedule-50-of-100"), of="validation_accuracy", want="higher")),
]
# fmt: on

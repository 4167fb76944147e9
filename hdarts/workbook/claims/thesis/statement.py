"""A statement of the thesis that can be recomputed, and pairs of such statements."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Literal

from hdarts.workbook.claims.thesis.read import Tables
from hdarts.workbook.claims.thesis.recompute import compare_means


@dataclass(frozen=True)
class Stated:
    """A number or word that the thesis states, and how its tables or our models give it.

    `quote`: a few words of the line. `value`: as printed; its decimals are the precision. `tolerance`: where half a
    unit of the last digit is too strict (the thesis says "around", or a rounding was carried on). `elsewhere`: the line
    that states the recomputed value. `cause`: our reading of why the two disagree.
    """

    place: str
    line: int
    quote: str
    what: str
    value: str
    recompute: Callable[[Tables], float | str]
    relation: Literal["=", "<", ">"] = "="
    tolerance: float | None = None
    elsewhere: int | None = None
    cause: str = ""


@dataclass(frozen=True)
class Accuracy:
    """A test accuracy stated as mean ± standard deviation (`quote`) of the column `data` of a table of evaluations."""

    place: str
    line: int
    quote: str
    model: str
    table: int
    data: str
    cause_of_mean: str = ""
    cause_of_deviation: str = ""

    def statements(self) -> tuple[Stated, Stated]:
        """Return the statements of the mean and of the standard deviation: the population's, as `deviations` shows."""

        def state(what: str, value: str, of: Callable[[list[float]], float], cause: str) -> Stated:
            what = f"{self.model}, {self.data}, {what}"
            column = lambda t: of(t.column(self.table, self.data))  # noqa: E731
            return Stated(self.place, self.line, self.quote, what, value, column, cause=cause)

        mean, *_, deviation = self.quote.split()
        return (
            state("mean", mean, fmean, self.cause_of_mean),
            state("deviation", deviation, pstdev, self.cause_of_deviation),
        )


def both_means(place: str, line: int, quote: str, model: str, table: int) -> list[Stated]:
    """Return the statements of the mean test accuracies on CIFAR-10 and CIFAR-100: the two percentages in `quote`."""
    values = (word.rstrip("%") for word in quote.split(" and "))
    return [
        Stated(place, line, quote, f"{model}, {name}, mean", value, lambda t, data=data: fmean(t.column(table, data)))
        for value, name, data in zip(values, ("CIFAR-10", "CIFAR-100"), ("cifar10", "cifar100"), strict=True)
    ]


def both_higher(place: str, line: int, quote: str, what: str, table: int, other: int) -> list[Stated]:
    """Return the statements that the mean test accuracies of `table` are higher than those of `other`."""

    def compared(data: str) -> Callable[[Tables], str]:
        return lambda t: compare_means(t.column(table, data), t.column(other, data))

    return [Stated(place, line, quote, f"{what}, {data}", "higher", compared(data)) for data in ("cifar10", "cifar100")]


DOUBLED = "twice the published cost, as for all cited models but P-DARTS; the text gives no reason"


def as_published(model: str, line: int, days: str, accuracy: str, cause: str = DOUBLED) -> list[Stated]:
    """Return the statements of a row of table 23 about another paper's model, compared with published.csv."""

    def published(column: str) -> Callable[[Tables], float]:
        return lambda t: t.cell("published", column, model)

    cost = Stated("table 23", line, f"\t{days}\t", f"{model}, search days in print", days, published("search_days"),
        cause=cause)  # fmt: skip
    mean, _, deviation = accuracy.partition(" ± ")
    what, error = f"{model}, CIFAR-10 accuracy in print", published("cifar10_error")
    rows = [cost, Stated("table 23", line, mean, f"{what}, mean", mean, lambda t: 100 - error(t))]
    if deviation:
        sd = published("cifar10_error_sd")
        rows.append(Stated("table 23", line, accuracy, f"{what}, deviation", deviation, sd))
    return rows

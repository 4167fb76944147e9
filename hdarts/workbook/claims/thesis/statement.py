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

"""Types of single parameters, with their limits."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("contains characters that cannot be printed")
    return text


Text = Annotated[str, AfterValidator(_printable)]
Integer = Annotated[int, Field(lt=2**63)]  # fits a column of a table
Count = Annotated[Integer, Field(ge=1)]
CountOrZero = Annotated[Integer, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Precision = Literal["float32", "bfloat16"]
Fraction = Annotated[float, Field(ge=0, lt=1)]

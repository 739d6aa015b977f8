"""Numbers and tables as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def number(value: float | None, digits: int = 3) -> str:
    """At least ``digits`` significant digits, no exponent for ordinary sizes; "-" where there is no value."""
    if value is None or math.isnan(value):
        return "-"
    if value == 0.0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if not -4 < magnitude < 7:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(0, digits - 1 - magnitude)}f}"


def ratio(value: float | None) -> str:
    """How many times; "-" where there is no value."""
    return "-" if value is None or math.isnan(value) else f"{number(value, 2 if value < 100 else 3)}x"


def percent(value: float | None) -> str:
    """A share as a percentage."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f} %"


def with_error(value: float, error: float, digits: int = 4) -> str:
    """A mean with its standard error."""
    return f"{value:.{digits}f} ± {'-' if math.isnan(error) else f'{error:.{digits}f}'}"


def render(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table whose columns line up in plain text too; all but the first are right-aligned."""
    rows = [list(header), *(list(row) for row in body)]
    widths = [max(3, *(len(row[column]) for row in rows)) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        return f"| {' | '.join([row[0].ljust(widths[0]), *cells[1:]])} |"

    rule = "|".join(["", "-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:]), ""])
    return "\n".join([line(rows[0]), rule, *(line(row) for row in rows[1:])])

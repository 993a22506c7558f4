"""How numbers and tables are written for people: costs with units, percent, time, Markdown."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

from pfrl.cost.metrics import METRICS, Metric, Unit

DASH = "–"
NO_BREAK = "\u00a0"
UNKNOWN = Metric(lambda costs, at: math.nan)


def described(metric: str) -> Metric:
    """The registered metric; of one that nobody has registered here no more than its name."""
    found = METRICS[metric] if metric in {*METRICS} else UNKNOWN
    return found if found.title else found._replace(title=metric.replace("_", " "))


def noun_of(metric: str) -> str:
    """What a cost is called in a sentence or a table: ``MACs``, ``packed size``."""
    found = described(metric)
    return found.noun or found.title


def unit_of(metric: str, largest: float) -> Unit:
    """The unit in which costs of ``metric`` up to ``largest`` are easy to read."""
    units = described(metric).units
    return next((unit for unit in units if abs(largest) >= unit.divisor), units[-1])


def axis_label(metric: str, unit: Unit) -> str:
    """``MACs per image (millions)``."""
    return described(metric).title + (f" ({unit.word})" if unit.word else "")


def number(value: float | None) -> str:
    """At least three significant digits, no exponent: ``20.4``, ``0.862``, ``1240``."""
    if not is_number(value):
        return DASH
    if value == 0:
        return "0"
    decimals = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(max(decimals, 0), 6)}f}".replace("-", "−")


def cost(metric: str, value: float | None) -> str:
    """A cost with its unit: ``20.4 M``, ``272 kB`` (of 1,000 bytes), ``0.862 ms``."""
    if not is_number(value):
        return DASH
    unit = unit_of(metric, value)
    return f"{number(value / unit.divisor)} {unit.symbol}".rstrip()


def cost_phrase(metric: str, value: float | None) -> str:
    """A cost in a sentence: ``20.4 M MACs``, ``a packed size of 68 kB``."""
    found = described(metric)
    if found.noun:
        return f"{cost(metric, value)} {found.noun}"
    return f"a {found.title} of {cost(metric, value)}"


def percent(share: float | None, decimals: int = 2) -> str:
    """A share in [0, 1] as ``92.47 %``."""
    return f"{100 * share:.{decimals}f} %" if is_number(share) else DASH


def points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign: ``−0.41``."""
    return f"{100 * difference:+.2f}".replace("-", "−")


def sentence(text: str) -> str:
    """With a large letter at its beginning."""
    return text[:1].upper() + text[1:]


def duration(seconds: float | None) -> str:
    """``4.2 s``, ``3:07 min`` or ``2:05 h``."""
    if not is_number(seconds):
        return DASH
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"


def is_number(value: Any) -> TypeGuard[float]:
    """Whether ``value`` is a finite number; a diverged episode has none."""
    return isinstance(value, int | float) and math.isfinite(value)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A GitHub table whose first ``left`` columns are flush left and whose others flush right.

    The right ones hold numbers, whose lines break before a bracket only.
    """

    def cell(text: str, column: int) -> str:
        text = text.replace("|", "\\|")
        return text if column < left else text.replace(" ", NO_BREAK).replace(NO_BREAK + "(", " (")

    rule = [":--" if column < left else "--:" for column in range(len(header))]
    lines = [[cell(text, column) for column, text in enumerate(row)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *lines))


def comma_separated(rows: Iterable[Sequence[object]]) -> str:
    """The text of a CSV file."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def section(title: str, *parts: str) -> str:
    """A heading and what there is below it; nothing at all if nothing is there."""
    content = "\n\n".join(filter(None, parts))
    return f"## {title}\n\n{content}" if content else ""


def bullets(*lines: str) -> str:
    return "\n".join(f"- {line}" for line in lines if line)


def code_block(text: str, language: str = "") -> str:
    return f"```{language}\n{text.strip()}\n```"


def details(summary: str, content: str) -> str:
    """A part that is folded until the reader opens it."""
    return f"<details>\n<summary>{summary}</summary>\n\n{content}\n\n</details>"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of one width, the first flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )

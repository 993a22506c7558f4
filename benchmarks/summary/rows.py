"""A row of the table of ``make bench``, and the table as text, as Markdown and as data."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from experiments.records.wording import DASH, number

HEADER = (
    "what",
    "figure",
    "ratio",
    "95 % interval",
    "seconds by part",
    "peak, MiB",
    "instruction set",
)


class Row(NamedTuple):
    """One thing that was measured.

    Attributes:
      what: it is, and on which network.
      figure: the number.
      unit: of the number.
      ratio: to what ``what`` names second; None where nothing is compared.
      interval: of the ratio, 95 %; None where there is none.
      parts: seconds by part.
      peak: MiB, largest resident memory; None where the process did other things too.
    """

    what: str
    figure: float | None
    unit: str = ""
    ratio: float | None = None
    interval: tuple[float, float] | None = None
    parts: Mapping[str, float] = MappingProxyType({})
    peak: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "parts": dict(self.parts)}


def cells(row: Row, instruction_set: str) -> tuple[str, ...]:
    """As ``HEADER`` says; what there is not is a dash."""
    interval = DASH if row.interval is None else " to ".join(map(number, row.interval))
    parts = ", ".join(f"{name} {number(seconds)}" for name, seconds in row.parts.items())
    return (
        row.what,
        f"{number(row.figure)} {row.unit}".strip(),
        number(row.ratio),
        interval,
        parts or DASH,
        number(row.peak),
        instruction_set,
    )


def grid(rows: Sequence[Row], instruction_set: str) -> list[tuple[str, ...]]:
    """The cells of all rows."""
    return [cells(row, instruction_set) for row in rows]

"""How the lines of a study are read: which fields name a cell, which ones are compared."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agents import AGENTS
from experiments.records.history import Line
from experiments.records.wording import is_number
from pfrl.files import FileError, write_json

LAYOUT = "layout.json"
"""File of a study's folder that holds its layout, where the study writes one."""
NO_RESULT = ("folder", "runtime")
"""Texts of a line that name no cell."""


@dataclass(frozen=True)
class Column:
    """A number of each line.

    Attributes:
      name: field of the line; ``costs.macs`` is the field ``macs`` of the field ``costs``.
      title: above the column; the name, if empty.
      unit: 'share' is shown in percent, 'seconds' and everything else as they are.
      better: 1 if more is better, -1 if less is, 0 if neither.
      parts: fields whose sum it is, if it is no field of its own.
      compared: whether cells are compared in it too, as they are in the first column.
    """

    name: str
    title: str = ""
    unit: str = ""
    better: int = 1
    parts: tuple[str, ...] = ()
    compared: bool = False

    @property
    def heading(self) -> str:
        """With its unit: ``test accuracy (%)``."""
        unit = {"share": "%"}.get(self.unit, self.unit)
        return (self.title or self.name.replace("_", " ")) + (f" ({unit})" if unit else "")

    @property
    def scale(self) -> float:
        """From the line's unit to the shown one."""
        return 100.0 if self.unit == "share" else 1.0

    def of(self, line: Line) -> float | None:
        """The line's number; None if it has none."""
        values = [_field(line, name) for name in self.parts or (self.name,)]
        return sum(values) if values and all(map(is_number, values)) else None


@dataclass(frozen=True)
class Layout:
    """How a study's lines become tables.

    Attributes:
      cell: fields that name a cell, whose lines differ by seed only.
      columns: what is shown; the first one is what cells are compared in.
      task: fields within whose values cells are compared; one table for each.
      baselines: first values of the cells that others are compared with; the best of them that
        is there. The first cell, if empty.
      seed: the field by which lines of two cells are pairs.
    """

    cell: tuple[str, ...]
    columns: tuple[Column, ...]
    task: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    seed: str = "seed"


def write_layout(folder: Path, layout: Layout) -> Path:
    """Keep a layout beside the lines, where ``pfrl report`` finds it."""
    return write_json(folder / LAYOUT, asdict(layout))


def layout_of(command: str, lines: Sequence[Line], kept: Mapping[str, Any] | None) -> Layout:
    """The layout of a study's lines.

    Args:
      command: that made them, such as 'sweep'.
      lines: at least one.
      kept: what ``layout.json`` holds, if there is one.

    Raises:
      FileError: if that is no layout.
    """
    if kept is not None:
        try:
            columns = [{**each, "parts": tuple(each["parts"])} for each in kept["columns"]]
            return Layout(
                tuple(kept["cell"]),
                tuple(Column(**each) for each in columns),
                tuple(kept["task"]),
                tuple(kept["baselines"]),
                kept["seed"],
            )
        except (KeyError, TypeError) as error:
            raise FileError(f"{LAYOUT} is not of this version ({error}); run it again") from error
    if command == "sweep":
        rivals = (name for name, agent in AGENTS.items() if not (agent.learns or agent.rule))
        return Layout(("agent",), SWEEP, ("target",), tuple(rivals))
    return KNOWN.get(command) or _inferred(lines)


SECONDS = Column("seconds", "wall time", "seconds", -1)
SWEEP = (
    Column("search_accuracy", unit="share"),
    Column("test_accuracy", unit="share"),
    Column("seconds", "wall time", "seconds", -1, ("evaluation_seconds", "agent_seconds")),
)
KNOWN = {
    "pareto": Layout(
        ("limit",),
        (Column("held_out_accuracy", unit="share"), Column("search_accuracy", unit="share")),
    ),
    "methods": Layout(
        ("name",),
        (
            Column("after", "test accuracy", "share"),
            Column("costs.macs", "MACs", better=-1),
            Column("costs.bytes", "bytes", better=-1),
        ),
        ("section",),
    ),
    "compress": Layout(
        ("agent",),
        (
            Column("test_accuracy", unit="share"),
            Column("change", "against the base", "share"),
            Column("macs", "MACs (M)", better=-1),
            Column("latency", "latency (ms)", better=-1),
            Column("bytes", "file (kB)", better=-1),
            SECONDS,
        ),
        ("model", "data", "budget"),
    ),
}
"""By command. Any other study's is inferred, or kept in its folder."""


def _inferred(lines: Sequence[Line]) -> Layout:
    """Texts name the cell, numbers are its columns, the seed is ``seed``."""
    fields = dict.fromkeys(name for line in lines for name in line if name not in NO_RESULT)
    found = {name: [line[name] for line in lines if name in line] for name in fields}
    texts = [name for name, values in found.items() if any(isinstance(v, str) for v in values)]
    numbers = [
        name for name, values in found.items() if name != "seed" and any(map(is_number, values))
    ]
    return Layout(tuple(texts), tuple(Column(name) for name in numbers if name not in texts))


def _field(line: Line, name: str) -> Any:
    value: Any = line
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value

"""The table of an experiment, with what was asked and how it was made."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.ablations.experiment import Experiment
from experiments.records.history import Line
from experiments.records.wording import bullets, comma_separated
from experiments.report.studies.comparing import cells
from experiments.report.studies.source import describe
from experiments.report.studies.tables import SUMMARY, Folders, markdown, study_tables, summary_rows
from pfrl.files import write_text


def write_results(
    out: Path, name: str, lines: Sequence[Line], facts: Mapping[str, Any], experiment: Experiment
) -> list[Path]:
    """``table.md`` and ``table.csv`` from the lines of all jobs.

    Args:
      out: folder of the run, whose histories the table leads to.
      name: of the experiment.
      lines: of the jobs, in their order.
      facts: as ``config.json`` has them.
      experiment: what was run.
    """
    layout = experiment.layout
    rows = [SUMMARY, *summary_rows(name, cells(lines, layout), layout)]
    return [
        write_text(out / "table.md", page(out, lines, facts, experiment)),
        write_text(out / "table.csv", comma_separated(rows)),
    ]


def page(out: Path, lines: Sequence[Line], facts: Mapping[str, Any], experiment: Experiment) -> str:
    """The table as Markdown; arguments as of ``write_results``."""
    tables = study_tables(lines, experiment.layout, Folders(out, out))
    parts = [
        f"# {experiment.title[0].upper()}{experiment.title[1:]}",
        f"{experiment.paper}: {experiment.table}. The claim that is tested: {experiment.claim}",
        *map(markdown, tables),
        "A cell is the mean over its n seeds ± half the width of the 95 % interval (Student's t);"
        " differences are paired seed by seed, and those without a name are of the first column of"
        " numbers, as is the probability to be better.",
        f"Not here: {experiment.lacks}." if experiment.lacks else "",
        f"Made on {describe(facts)}, by",
        bullets(*(f"`{command}`" for command in facts.get("commands", ()))),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"

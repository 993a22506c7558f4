"""``pfrl report RUNS...``: one report of studies and runs, as Markdown, CSV and one HTML page."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure

from experiments.records.wording import bullets, comma_separated, details, section
from experiments.report.pictures import save_png
from experiments.report.studies.comparing import Cell, cells
from experiments.report.studies.figures import drawn
from experiments.report.studies.source import Study, describe
from experiments.report.studies.tables import (
    SUMMARY,
    Folders,
    Table,
    markdown,
    mean_text,
    runs_table,
    study_tables,
    summary_rows,
    versus_table,
)
from pfrl.files import write_text

HOW = (
    "A cell is the mean over its n seeds ± half the width of the 95 % interval; a value alone is"
    " of one seed. Differences are paired: seed by seed, in the first column of numbers where no"
    " other is named. P(better) is how often a run of this row is better than one of the other,"
    " ties counting half. An interval that holds 0, or a probability whose interval holds 0.5, is"
    " no proof of a difference."
)
STATISTIC = (
    "Statistic: intervals of means and of paired differences are Student's t over seeds, 95 %;"
    " those of probabilities and of the interquartile mean are percentiles of 2,000 bootstrap"
    " resamples, drawn within each task (arXiv 2108.13264)."
)


def write_studies(studies: Sequence[Study], out: Path) -> list[Path]:
    """Write ``report.md``, ``report.csv``, ``report.html`` and pictures into ``out``.

    Args:
      studies: one or several; what they have in common is compared with the first.
      out: a folder, from which the links to runs are relative.

    Returns:
      The paths of the page and of the table's files.

    Raises:
      FileError: if a history is damaged or the folder cannot be written to.
    """
    every = [cells(study.lines, study.layout) for study in studies]
    versus = _versus(studies, every)
    parts = [
        _StudyPart(study, mine, out, f"{number}-" if len(studies) > 1 else "")
        for number, (study, mine) in enumerate(zip(studies, every, strict=True), 1)
    ]
    title = f"Report of {', '.join(study.name for study in studies)}"
    headlines = [text for s, e in zip(studies, every, strict=True) for text in _headlines(s, e)]
    rows = [
        row
        for s, e in zip(studies, every, strict=True)
        for row in summary_rows(s.name, e, s.layout)
    ]
    text = [f"# {title}", bullets(*headlines), HOW, *map(markdown, versus)]
    text += [part.markdown for part in parts]
    text.append(section("How it was made", bullets(*(part.footer for part in parts)), STATISTIC))
    page = _template().render(
        title=title,
        headlines=headlines,
        how=HOW,
        statistic=STATISTIC,
        versus=versus,
        studies=[part.data for part in parts],
    )
    return [
        write_text(out / "report.md", "\n\n".join(filter(None, text)) + "\n"),
        write_text(out / "report.csv", comma_separated([SUMMARY, *rows])),
        write_text(out / "report.html", page),
    ]


class _StudyPart:
    """What a report says of one study."""

    def __init__(self, study: Study, every: Sequence[Cell], out: Path, prefix: str):
        folders = Folders(study.path, out)
        tables = study_tables(study.lines, study.layout, folders)
        runs = runs_table(study.lines, study.layout, folders)
        pictures = {}
        for name, (figure, text) in drawn(study, every).items():
            save_png(out / f"{prefix}{name}.png", figure)
            pictures[f"{prefix}{name}.png"] = figure, text
        facts, seeds = study.facts, sorted({str(seed) for cell in every for seed in cell.lines})
        commit = ", ".join(facts.get("commits", ())) or "unknown"
        self.data: dict[str, Any] = {
            "name": study.name,
            "tables": tables,
            "runs": runs,
            "pictures": [{"svg": _svg(figure), "text": text} for figure, text in pictures.values()],
            "commands": facts.get("commands", []),
            "commit": commit,
            "seeds": ", ".join(sorted(seeds, key=lambda x: (len(x), x))),
            "machine": describe(facts),
        }
        shown = [f"![{text}]({name})" for name, (_, text) in pictures.items()]
        deeper = [markdown(table).replace("## ", "### ", 1) for table in tables]
        whole = details(f"All {len(runs.rows)} runs", markdown(runs._replace(title="")))
        self.markdown = section(study.name, *deeper, *shown, whole)
        commands = ", ".join(f"`{command}`" for command in facts.get("commands", ()))
        self.footer = (
            f"{study.name}: made by {commands or 'an unknown command'}; commit {commit}; seeds"
            f" {self.data['seeds']}; machine {self.data['machine']}."
        )


def _versus(studies: Sequence[Study], every: Sequence[Sequence[Cell]]) -> list[Table]:
    """Each later study beside the first, where both have a cell and the compared column."""
    found = [
        versus_table((studies[0].name, study.name), every[0], mine, studies[0].layout)
        for study, mine in zip(studies[1:], every[1:], strict=True)
        if studies[0].layout.columns and study.layout.columns[:1] == studies[0].layout.columns[:1]
    ]
    return [table for table in found if table is not None]


def _headlines(study: Study, every: Sequence[Cell]) -> list[str]:
    """Which cell is the best in the first column, and whether that is more than chance."""
    column = study.layout.columns[0] if study.layout.columns else None
    sentences = []
    for task in dict.fromkeys(cell.task for cell in every):
        mine = [x for x in every if x.task == task and column and column.name in x.means]
        if column is None or len(mine) < 2:
            continue
        best = max(mine, key=lambda cell: (column.better or 1) * cell.means[column.name].mean)
        value = mean_text(best.means[column.name], column.scale)
        where = f"{study.name}, {task}" if task else study.name
        text = f"{where}: {best.name} has the best {column.heading}, {value}"
        if best.against is not None:
            difference = best.against.difference
            unsure = difference.margin is None or abs(difference.mean) <= difference.margin
            verdict = "which may be chance" if unsure else "more than chance explains"
            shown = mean_text(difference, column.scale, signed=True)
            text += f"; {shown} to {best.against.rival}, {verdict}"
        sentences.append(f"{text}.")
    return sentences or [f"{study.name}: {len(study.lines)} runs."]


def _svg(figure: Figure) -> str:
    """The figure in base64, the same for the same figure."""
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "pfrl"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return base64.b64encode(stream.getvalue()).decode()


def _template() -> Any:
    place = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=place, autoescape=True, trim_blocks=True).get_template("page.html.j2")

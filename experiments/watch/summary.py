"""A study in TensorBoard: bands over seeds, and one run with its tables and pictures.

Searches write their own runs while they go on; this is written when a study has ended.
"""

from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from experiments.report.studies.comparing import Cell, cells
from experiments.report.studies.figures import best_accuracies, drawn, extended
from experiments.report.studies.source import Study, read_studies
from experiments.report.studies.tables import Folders, markdown, study_tables
from experiments.watch.board import add_figure, writing_log
from experiments.watch.dashboard import BAND, LAYOUT

BANDS = "all-seeds"
"""Folder, beside those of the seeds, of the run that stands for all of them."""
SUMMARY = "summary"


def write_summary(folder: Path) -> None:
    """Write a study's bands and its summary into event files below its folder, in place of older.

    Raises:
      FileError: if a file of the study is damaged, or its folder cannot be written to.
    """
    study = read_studies([folder])[0]
    every = cells(study.lines, study.layout)
    with writing_log(folder):
        for cell in every:
            _write_band(study, cell)
        _write_tables(study, every)


def _write_band(study: Study, cell: Cell) -> None:
    """Mean, lowest and highest of the seeds' best accuracies, episode by episode."""
    folders = {
        (study.path / line["folder"]).parent for line in cell.lines.values() if "folder" in line
    }
    runs = [best_accuracies(run) for line in cell.lines.values() if (run := study.histories(line))]
    if len(runs) < 2 or len(folders) > 1:
        return
    values = extended(runs)
    bands = values.mean(0), values.min(0), values.max(0)
    with SummaryWriter(str(folders.pop() / BANDS), purge_step=0) as writer:
        for tag, band in zip(BAND, bands, strict=True):
            for step in np.flatnonzero(np.isfinite(band)):
                writer.add_scalar(tag, band[step], int(step))


def _write_tables(study: Study, every: list[Cell]) -> None:
    tables = study_tables(study.lines, study.layout, Folders(study.path, study.path))
    commands = [f"`{command}`" for command in study.facts.get("commands", ())]
    with SummaryWriter(str(study.path / SUMMARY), purge_step=0) as writer:
        writer.add_custom_scalars(LAYOUT)
        writer.add_text(
            "results", "\n\n".join(markdown(table, linked=False) for table in tables), 0
        )
        writer.add_text("commands", "\n\n".join(commands) or "unknown", 0)
        for name, (figure, _) in drawn(study, every).items():
            add_figure(writer, f"pfrl/{name}", figure, 0)

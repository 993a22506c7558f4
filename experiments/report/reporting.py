"""``pfrl report``: of one run its page again; of studies and several runs, one report of all."""

from collections.abc import Sequence
from pathlib import Path

from experiments.report.run_report import write_report
from experiments.report.studies.pages import write_studies
from experiments.report.studies.source import is_single, read_studies
from experiments.settings.files import ReportSettings
from pfrl.files import check_folders

TOGETHER = Path("runs/report")
"""Where the report of several folders goes, unless somebody says."""


def run(settings: ReportSettings) -> Sequence[Path]:
    """Write the report; returns the paths of its files.

    Raises:
      FileError: if a folder is not there or holds nothing to report on, or a file is damaged.
    """
    check_folders(*settings.runs)
    if is_single(settings.runs) and settings.out is None:
        return [write_report(settings.runs[0])]
    studies = read_studies(settings.runs)
    alone = settings.runs[0] if len(settings.runs) == 1 else TOGETHER
    return write_studies(studies, settings.out or alone)

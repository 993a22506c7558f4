"""What a user can set for the commands that take a file or a folder: report and measure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import tyro

from experiments.settings.blocks import CommandSettings
from pfrl.bounds import Count, Positive, Share
from pfrl.files import FileError


@dataclass(frozen=True)
class ReportSettings(CommandSettings):
    """Report on runs and studies: tables with intervals, curves and policies on one page.

    Of one run of 'compress', its report.md and pictures are written again.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of studies, of runs, or that hold such. Of several studies, each is compared with
    the first."""
    out: Path | None = None
    """Where report.md, report.csv and report.html go. Default: the folder itself; of several,
    runs/report."""

    def resolved(self) -> Self:
        """See ``CommandSettings``.

        Raises:
          FileError: also if no folder is given.
        """
        if not self.runs:
            raise FileError("no folder to report on; give one or more that pfrl wrote")
        return super().resolved()


@dataclass(frozen=True)
class MeasureSettings(CommandSettings):
    """Measure files in their runtimes, in turns: latency, size and memory.

    ``.onnx`` files run in ONNX Runtime, ``.tflite`` files in LiteRT.
    """

    files: tyro.conf.Positional[tuple[Path, ...]]
    """One file or several, which are compared with the first."""
    threads: Count = 1
    """Threads inside an operation."""
    batch: Count = 1
    """Images a run."""
    precision: Share = 0.02
    """Measuring ends when the 95 % interval of every median is narrower than this share of it."""
    seconds: Positive = 30.0
    """It ends after this time, too; with several files, for all of them together."""
    layers: bool = False
    """Also show the time of every operation, where the runtime tells it: ONNX Runtime does."""

    def __post_init__(self) -> None:
        """Raises FileError if no file is given."""
        if not self.files:
            raise FileError("no file to measure; give one or more .onnx or .tflite files")

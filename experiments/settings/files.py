"""What a user can set for the commands that take a file or a folder: report and measure."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.settings.blocks import CommandSettings
from pfrl.bounds import Count, Positive, Share
from pfrl.files import FileError


@dataclass(frozen=True)
class ReportSettings(CommandSettings):
    """Write report.md and its pictures again from the files of a run directory."""

    run_dir: tyro.conf.Positional[Path]
    """A directory that 'compress' wrote."""


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

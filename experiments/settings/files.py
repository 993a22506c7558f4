"""What a user can set for the commands that take a file or a folder: report and measure."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.settings.blocks import CommandSettings
from pfrl.bounds import Count, Positive


@dataclass(frozen=True)
class ReportSettings(CommandSettings):
    """Write report.md and its pictures again from the files of a run directory."""

    run_dir: tyro.conf.Positional[Path]
    """A directory that 'compress' wrote."""


@dataclass(frozen=True)
class MeasureSettings(CommandSettings):
    """Measure the latency of an ONNX file in ONNX Runtime."""

    onnx: tyro.conf.Positional[Path]
    """The file."""
    threads: Count = 1
    """Threads inside an operation."""
    batch: Count = 1
    """Images a run."""
    seconds: Positive = 2.0
    """Time spent on measuring."""

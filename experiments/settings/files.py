"""What a user can set for the commands that take a file or a folder: report, export, measure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import tyro

from experiments.settings.blocks import CommandSettings, SettingsError
from pfrl.bounds import Bounds, Count, Positive, Share
from pfrl.files import FileError

FLOAT = 32
"""Bits of what is not rounded."""


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


Format = Literal["onnx", "litert", "packed", "jax"]


@dataclass(frozen=True)
class ExportSettings(CommandSettings):
    """Write the network of a finished run again, in any format, with other numbers or the same."""

    run_dir: tyro.conf.Positional[Path]
    """A directory that 'compress' or 'apply' wrote."""
    format: tuple[Format, ...] = ("onnx",)
    """Formats to write: onnx, litert (needs the extra [litert]), packed (arrays at their bit
    widths), jax (a folder for pfrl.load that runs and trains without the code of the network)."""
    bits: Annotated[int, Bounds(2, 32)] | None = None
    """Bit width of weights and activations: 32 is float; up to 8 integers, which a network that
    was not trained with them is rounded to on training images. Default: those of the run."""
    model: str | None = None
    """Where the network's own file is now, FILE.onnx or FILE.py:FUNCTION, if it was moved."""
    data: str | None = None
    """Where the data set is now, if it was moved; read only where --bits rounds a network."""
    out: Path | None = None
    """Folder of the files. Default: export in the run's folder."""

    def resolved(self) -> Self:
        """See ``CommandSettings``.

        Raises:
          SettingsError: if a format is not named, or no runtime or file has these bits.
        """
        super().resolved()
        if not self.format:
            raise SettingsError("no format to write; give --format onnx, litert, packed or jax")
        if self.bits is not None and 8 < self.bits < FLOAT:
            raise SettingsError(f"bits is 2 to 8, or {FLOAT} for float; got {self.bits}")
        return self


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

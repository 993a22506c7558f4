"""A study's jobs in TensorBoard, where they are no searches: one run each, of numbers only."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from experiments.records.history import Line
from experiments.records.wording import is_number
from experiments.watch.board import writing_log
from experiments.watch.dashboard import settings_text

SEED = "seed"
NAMELESS = "all"
"""The run of jobs that differ by their seeds only."""


def write_job(folder: Path, job: NamedTuple, line: Line) -> None:
    """Write a finished job as a run, such as ``tb/channels/l1/seed-0``, beside the study's lines.

    Its fields, and what the line has as ``values``, are the hyper-parameters; its results the
    metrics, whose names begin with ``study/``. The step is the job's number: its first whole
    number, such as the seed.

    Args:
      folder: of the study.
      job: what was done.
      line: what was found; results of results are named with a dot, such as ``costs.macs``.

    Raises:
      FileError: if the folder cannot be written to.
    """
    fields = {name: "none" if value is None else value for name, value in job._asdict().items()}
    tried = line.get("values", {})
    results = {name: v for name, v in line.items() if name != "values" and name not in fields}
    # HParams opens with the first five metrics: what was asked is no result of results.
    numbers = sorted(_numbers(results), key=lambda number: "." in number[0])
    found = {f"study/{name}": value for name, value in numbers}
    settings = {name: v if is_number(v) else str(v) for name, v in {**fields, **tried}.items()}
    step = next((value for value in job if isinstance(value, int)), 0)
    begin, metrics, end = hparams(settings, dict.fromkeys(found, 0.0))
    place = str(folder / "tb" / run_name(fields))
    with writing_log(folder), SummaryWriter(place, purge_step=0) as writer:
        for summary in (begin, metrics, end):
            writer._get_file_writer().add_summary(summary)
        writer.add_text("settings", settings_text(settings), step)
        for tag, value in found.items():
            writer.add_scalar(tag, value, step)


def run_name(fields: Mapping[str, Any]) -> Path:
    """The folder of a job's run: a level for each text, one for all numbers, the seed last."""
    texts = [str(value) for value in fields.values() if isinstance(value, str)]
    numbers = [
        f"{name}={value}"
        for name, value in fields.items()
        if name != SEED and not isinstance(value, str)
    ]
    levels = [*texts, *([",".join(numbers)] if numbers else [])] or [NAMELESS]
    if SEED in fields:
        levels.append(f"seed-{fields[SEED]}")
    return Path(*(level.replace("/", "-").strip(". ") or NAMELESS for level in levels))


def _numbers(line: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, float]]:
    for name, value in line.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{within}{name}.")
        elif is_number(value):
            yield f"{within}{name}", float(value)

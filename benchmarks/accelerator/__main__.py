"""What is measured, for how long, and what of it was left out.

    pip install -c constraints.txt -e '.[benchmarks]' 'jax[cuda12]'    # and a PyTorch with CUDA
    python -m benchmarks.accelerator

A process measures what is ours of a network, and another one PyTorch's, one after the other on the
same card: the memory of a library is given back only when its process ends. A process that
fails, or that the time is up for, takes nothing with it but its own rows. Prints a table when all
has ended, and writes it as ``accelerator.md``, with ``accelerator.json``.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from benchmarks.accelerator.plan import AcceleratorSettings, Left, PlanError, Report, jobs_of
from benchmarks.accelerator.processes import reports

NOTHING = (
    "JAX finds no GPU or TPU here and would compute on the CPU, so there is nothing to measure:"
    " run this where a GPU and a JAX with CUDA are installed."
)


def accelerator() -> str | None:
    """What kind of GPU or TPU JAX uses; None on a CPU."""
    # This process only asks: the memory is for those that measure.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    return None if jax.default_backend() == "cpu" else jax.devices()[0].device_kind


def run(settings: AcceleratorSettings, device: str) -> list[Path]:
    """Measure as much as the time allows; print and write what was found.

    Args:
      settings: see there.
      device: what it is measured on, in words.

    Raises:
      PlanError: if a network cannot be compared.
    """
    jobs, rows, left = jobs_of(settings), [], []
    start = time.monotonic()
    for job in jobs:
        # What a job does not use is for those behind it.
        end = start + 60 * settings.minutes * job.until
        missing = list(job.rows)
        try:
            for report in reports(settings, job, end - time.monotonic()):
                missing.remove(report.row)
                if report.why is None:
                    rows.append(report)
                    print(f"{report.row.text}: {report.policies_a_second:.3g} a second", flush=True)
                else:
                    left.append((report.row, report.why))
        except Left as why:
            left += [(row, str(why)) for row in missing]
    return write(settings, device, rows, left)


def write(
    settings: AcceleratorSettings, device: str, rows: Sequence[Report], left: Sequence[Any]
) -> list[Path]:
    """Print the page, and write it beside the data."""
    from importlib.metadata import PackageNotFoundError, version

    from benchmarks.accelerator.page import describe
    from experiments.records.machine import machine
    from pfrl.files import write_json, write_text

    versions = {}
    for package in ("jax", "torch", "torch-pruning"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    facts = {
        "command": " ".join(["python -m benchmarks.accelerator", *sys.argv[1:]]),
        "settings": {k: plain(v) for k, v in vars(settings).items() if k != "force"},
        "device": device,
        "machine": machine(),
        "versions": versions,
    }
    text = describe(facts, rows, left)
    print(f"\n{text}")
    data = {
        **facts,
        "rows": [{**row.row._asdict(), **dataclasses.asdict(row)} for row in rows],
        "left_out": [{**row._asdict(), "why": why} for row, why in left],
    }
    return [
        write_json(settings.out / "accelerator.json", data),
        write_text(settings.out / "accelerator.md", text + "\n"),
    ]


def plain(value: Any) -> Any:
    """A setting as JSON has it."""
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m benchmarks.accelerator``."""
    name = "python -m benchmarks.accelerator"
    settings = tyro.cli(AcceleratorSettings, prog=name, args=arguments)
    device = accelerator()
    if device is None and not settings.force:
        print(NOTHING)
        return 0
    try:
        paths = run(settings, device or "a CPU")
    except PlanError as error:
        print(error, file=sys.stderr)
        return 2
    print(*paths, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

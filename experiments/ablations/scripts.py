"""Writes a script for each table into scripts/: ``python -m experiments.ablations.scripts``."""

from pathlib import Path

from experiments.ablations.experiment import EXPERIMENTS
from pfrl.files import write_text

FOLDER = Path(__file__).resolve().parents[1] / "scripts"


def script(name: str) -> str:
    """The text of the script of an experiment."""
    experiment = EXPERIMENTS[name]
    return f"""#!/usr/bin/env bash
# {experiment.title}
# {experiment.paper}: {experiment.table}
# Usage: {name}.sh [smoke|small|paper] [options of 'pfrl ablate', such as --data and --weights]
set -euo pipefail
scale=${{1:-small}}
pfrl ablate {name} --scale "$scale" --seeds 5 --out "runs/ablations/{name}-$scale" "${{@:2}}"
pfrl report "runs/ablations/{name}-$scale"
"""


def write_all() -> None:
    """Write the scripts of all experiments of the project."""
    for name in EXPERIMENTS:
        write_text(FOLDER / f"{name}.sh", script(name)).chmod(0o755)


if __name__ == "__main__":
    write_all()

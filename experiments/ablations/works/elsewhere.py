"""A search that several experiments ask for is done once: the others take its line and its files.

Experiments share their searches where they lie side by side, as in ``runs/ablations``. What
must be alike is everything that decides about a search: settings, agent and its options,
budget, seed, content of the weights, and versions.
"""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

from experiments.ablations.experiment import Cell, Context, Job, Shared
from experiments.records.history import Line, read_history
from experiments.records.run_folder import identity, versions

RESULTS = "results.jsonl"


def name_of(context: Context, settings: Shared, cell: Cell, seed: int) -> str:
    """The same for two searches if they are one search, and for no others.

    Args:
      context: of the run, whose latency table and weights count by their content.
      settings: of the cell.
      cell: who searches, under which budget.
      seed: of the search.
    """
    table = context.latency and context.latency.read_text()
    made = {
        **identity(settings, Path(context.weights)),
        **dataclasses.asdict(dataclasses.replace(cell, name="", changes={})),
        "target": cell.target or settings.targets[0],
        "targets": None,
        "storage": None,
        # Two kinds of options can have the same fields.
        "kind": type(cell.options).__name__,
        "latency": table,
        "versions": versions(),
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(made, sort_keys=True, default=str).encode()).hexdigest()


def taken_over(name: str, out: Path, folder: Path) -> Line | None:
    """The line of a finished search beside ``out``, whose files are copied into ``folder``.

    Args:
      name: as of ``name_of``.
      out: folder of the experiment that asks.
      folder: in it, of the search; one that is there already is left alone.

    Returns:
      The line; None where no experiment beside this one has it.
    """
    if folder.exists():
        return None
    for results in sorted(out.resolve().parent.glob(f"*/{RESULTS}")):
        for line in read_history(results):
            source = results.parent / str(line.get("folder"))
            if line.get("search") == name and source.is_dir():
                shutil.copytree(source, folder)
                # Whose job it was there is not whose it is here.
                return {name: value for name, value in line.items() if name not in Job._fields}
    return None

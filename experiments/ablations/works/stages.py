"""Channels first and bits after them: a search on what another search has pruned."""

from dataclasses import replace
from typing import Any

from experiments.ablations.experiment import Cell, Context, Job
from experiments.ablations.works.searching import find
from experiments.settings.blocks import LengthBlock
from experiments.watch.runs import tell_tuning
from pfrl.cost import Budget
from pfrl.deploy.onnx.export import export_onnx
from pfrl.evaluation.base import Tuning


def search(context: Context, job: Job) -> dict[str, Any]:
    """The line of a cell; the cell 'channels, then bits' searches twice, half as long each."""
    cell = context.cell(job.cell)
    if cell.name != "channels, then bits":
        return find(context, cell, job.seed).line
    return _one_after_the_other(context, cell, job.seed)


def _one_after_the_other(context: Context, cell: Cell, seed: int) -> dict[str, Any]:
    """Prune to the geometric mean of all bytes and the limit, fine-tune, and search bits of that.

    Each stage so takes the same factor of the bytes; half of the training images go to each.
    """
    settings = context.settings
    episodes = settings.length.episodes or 2
    halves = {
        "length": LengthBlock(episodes=max(episodes // 2, 1)),
        "tuning_images": max(settings.tuning_images // 2, 1),
    }
    limit = Budget.parse(settings.targets[0]).value
    first = replace(
        cell,
        name=f"{cell.name}, channels",
        target=f"packed={limit**0.5:.4f}",
        changes={**cell.changes, **halves},
    )
    pruned = find(context, first, seed)
    evaluator = pruned.problem.open().evaluator
    images, checkpoint = pruned.settings.tuning_images, pruned.folder / "tuning.npz"
    tuning = Tuning(images, settings.learning_rate, seed, tell_tuning, checkpoint)
    small = evaluator.network(pruned.best, tuning)
    path = export_onnx(small, evaluator.graph.input_shape, pruned.folder / "pruned.onnx")
    bytes_left = pruned.problem.open().costs.base["packed"] * limit
    second = replace(
        first,
        name=f"{cell.name}, bits",
        target=f"packed={bytes_left:.0f}",
        changes={
            **first.changes,
            "network.model": str(path),
            "network.weights": None,
            "space.knobs": ("weight_bits",),
        },
    )
    line = find(context._replace(weights=str(path)), second, seed).line
    return {
        **line,
        "episodes": line["episodes"] + pruned.line["episodes"],
        "evaluation_seconds": line["evaluation_seconds"] + pruned.line["evaluation_seconds"],
        "share": line["cost"] / pruned.problem.open().costs.base["packed"],
    }

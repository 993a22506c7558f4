"""Torch-Pruning's own choice of channels beside ours: equal MACs, equal fine-tuning, one run.

    pip install -c constraints.txt -e '.[benchmarks]'
    python -m benchmarks.library_choice --scale small --seeds 3

An experiment as those of ``pfrl ablate``, whose options it takes: uniform policies and searches by
DDPG here; in PyTorch the channels of the smallest group norms in the whole network (Fang et al.
2023, arXiv 2301.12900), or among groups of one structure (isomorphic pruning, Fang et al. 2024,
arXiv 2407.04616), without a search or a repair, which Torch-Pruning has not. All of them train on
the same batches and are tested once.
"""

import copy
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.peers_torch import CifarResNet, equal_of, to_torch, tp, tune, validate
from experiments.ablations.experiment import Cell, Context, Experiment, Job, Shared, changed
from experiments.ablations.papers.pipelines import NONE
from experiments.ablations.scales import at_scales
from experiments.ablations.works.measuring import measured
from experiments.ablations.works.searching import find, problem_in
from experiments.report.studies.layout import Column
from pfrl.compression.policy import Policy
from pfrl.compression.sliced import compress
from pfrl.cost import Budget
from pfrl.cpu import cores
from pfrl.deploy.onnx.export import export_onnx
from pfrl.deploy.runtimes.base import AT_ONCE
from pfrl.deploy.timing import latency_ratio, measure_interleaved
from pfrl.registry import register

NAME = "torch-pruning"
CHOICES = {"Torch-Pruning, whole network": False, "Torch-Pruning, isomorphic": True}
"""By the cell's name, whether only groups of one structure are compared."""
STEPS = 400
"""In which Torch-Pruning goes to the limit; scores are computed anew at each."""
MOST = 0.8
"""Share of a layer's channels that it removes at most; ``keep_min`` of our searches is the rest."""
SECONDS = 4.0
"""Of measuring a network beside the base."""


def search(context: Context, job: Job) -> dict[str, Any]:
    """The line of a cell: accuracy on the test images, and the shares of MACs and of latency."""
    cell = context.cell(job.cell)
    chosen = _row(cell)
    if chosen in CHOICES:
        return _in_pytorch(context, cell, job.seed, CHOICES[chosen])
    found = find(context, cell, job.seed)
    latencies = measured(found.problem.open().graph, found.best, SECONDS)
    return {**found.line, **latencies, "agent": chosen}


def _row(cell: Cell) -> str:
    return cell.name.partition(" at ")[0]


def _cells(settings: Shared) -> list[Cell]:
    rows = [
        *(Cell(name) for name in CHOICES),
        Cell("uniform, not repaired", agent="uniform", changes=NONE),
        Cell("uniform", agent="uniform"),
        Cell("ddpg"),
    ]
    return [
        replace(row, name=f"{row.name} at {target.partition('=')[2]}", target=target)
        for target in settings.targets
        for row in rows
    ]


def _in_pytorch(context: Context, cell: Cell, seed: int, isomorphic: bool) -> dict[str, Any]:
    settings = changed(context.settings, cell.changes)
    opened = problem_in(context, settings, cell).open()
    graph, dataset = opened.graph, opened.evaluator.dataset
    torch.set_num_threads(len(cores()))
    model = equal_of(settings.network.model, dataset, graph)
    example = torch.zeros(1, dataset.image_shape[-1], *dataset.image_shape[:2])
    limit = Budget.parse(cell.target or settings.targets[0]).value
    small, share = choose(model, example, limit, isomorphic)
    small.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    # As ``pfrl.evaluation.short_training`` trains the others.
    batch = settings.episode.batch
    steps = max(settings.tuning_images // batch, 1)
    batches = dataset.training_batches(batch, np.random.default_rng([seed, 4]), steps)
    rate, decay = settings.learning_rate, settings.episode.weight_decay
    tune(small, to_torch(batches, batch), rate, decay, falls_over=steps)
    test = to_torch(dataset.batches(dataset.open_test(), AT_ONCE), AT_ONCE)
    accuracy = validate(small, test)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "theirs.onnx"
        torch.onnx.export(small.eval(), (example,), path, dynamo=False)
        unpruned = compress(graph.source, Policy.uniform(graph), graph=graph)
        base = export_onnx(unpruned, graph.input_shape, Path(scratch) / "base.onnx")
        found, whole = measure_interleaved([path, base], seconds=SECONDS)
    ratio = latency_ratio(found, whole).value
    line = {"test_accuracy": accuracy, "share": share, "measured": ratio}
    return {**line, "agent": _row(cell), "target": cell.target}


def choose(
    model: CifarResNet, example: torch.Tensor, limit: float, isomorphic: bool
) -> tuple[CifarResNet, float]:
    """What Torch-Pruning leaves of a network, and its share of the MACs.

    Args:
      model: stays as it is.
      example: images of it.
      limit: share of the MACs.
      isomorphic: see ``CHOICES``.

    Raises:
      ValueError: if the limit is out of reach.
    """
    small, whole = copy.deepcopy(model), macs(model, example)
    pruner = tp.pruner.BasePruner(
        small,
        example,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        isomorphic=isomorphic,
        pruning_ratio=1.0,
        max_pruning_ratio=MOST,
        iterative_steps=STEPS,
        ignored_layers=[small.linear],
    )
    for _ in range(STEPS):
        if macs(small, example) <= limit * whole:
            return small, macs(small, example) / whole
        pruner.step()
    raise ValueError(f"Torch-Pruning leaves more than {limit:.0%} of the MACs in {STEPS} steps")


def macs(model: nn.Module, example: torch.Tensor) -> int:
    """Of the convolutions and of the last layer; shortcuts that only move channels have none."""
    counted = []

    def count(layer: Any, _: Any, result: torch.Tensor) -> None:
        counted.append(result[0].numel() * layer.weight[0].numel())

    hooks = [
        layer.register_forward_hook(count)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and ".shortcut" not in name
    ]
    with torch.inference_mode():
        model(example)
    for hook in hooks:
        hook.remove()
    return sum(counted)


EXPERIMENT = Experiment(
    title="Torch-Pruning's own choice of channels beside a uniform one and a search",
    paper="DepGraph (arXiv 2301.12900) and isomorphic pruning (arXiv 2407.04616)",
    table="no table of theirs: the same base network, fine-tuning and images for all",
    claim="At equal MACs and after the same fine-tuning, a search finds better networks than"
    " Torch-Pruning chooses.",
    scales=at_scales(every={"targets": ("macs=0.5", "macs=0.3")}),
    cells=_cells,
    columns=(
        Column("test_accuracy", "test accuracy after fine-tuning", "share"),
        Column("measured", "latency in ONNX Runtime", "share", -1),
        Column("share", "MACs", "share", -1),
    ),
    against="ddpg",
    tasks=True,
    work=search,
)

register("experiment", NAME, EXPERIMENT)

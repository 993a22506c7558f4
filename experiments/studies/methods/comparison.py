"""``pfrl methods``: compare the compression methods on one network, and write the table."""

import time
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from envs.task import load_network
from experiments.records.run_folder import RunFolder
from experiments.run.inputs import find_weights
from experiments.studies.methods.cells import Cell, cells
from experiments.studies.methods.settings import MethodsSettings
from experiments.studies.methods.table import write_table
from experiments.studies.study import complete, show_plan
from experiments.watch.summary import write_summary
from pfrl.compression.calibration import gather_from
from pfrl.compression.policy import Policy
from pfrl.compression.sliced import Compressed, compress
from pfrl.cost import CostModel
from pfrl.cpu.backend import answering, compiled
from pfrl.data import Dataset, Split
from pfrl.deploy.onnx.export import export_onnx
from pfrl.deploy.runtimes.onnxruntime import Session
from pfrl.graph import Graph, Variables
from pfrl.methods.quantization.uniform import FLOAT_BITS
from pfrl.methods.repair.batch_norm import find_momentum, reestimate
from pfrl.methods.sparsity.sparsify import magnitude_mask, zhu_gupta
from pfrl.tasks.outputs import as_one
from pfrl.training.fit import FitConfig, fit, mean_quality
from pfrl.training.step import Distillation, Project

BATCH = 64
"""Images of a fine-tuning step."""
QUANTIZER_RATE = 0.1
"""Of the learning rate, for the steps and clips of quantizers; at 1 those of 8 bits run away."""
STATISTICS_BATCHES = 16
"""Of 64 training images each, from which statistics are re-estimated."""
GRADUAL = 0.6
"""Share of the fine-tuning in which weights go one after the other."""
GRADUAL_FROM = 0.3
"""Share of the final sparsity at its first step."""


class Evaluated(NamedTuple):
    """One job: a cell of a section, under a seed."""

    section: str
    name: str
    seed: int


BASE = Evaluated("base", "base", 0)
"""The network that all come from."""


def run(settings: MethodsSettings) -> list[Path]:
    """Evaluate every cell that is not recorded yet, and return the path of the table.

    Raises:
      ValueError: a subclass with a sentence for the user, if something that was given is wrong.
    """
    weights = find_weights(settings.network)
    folder = RunFolder("methods", settings, weights)
    settings = replace(settings, network=replace(settings.network, weights=weights))
    names = [(cell.section, cell.name) for cell in cells() if cell.section in settings.sections]
    jobs = [BASE, *(Evaluated(*name, seed) for seed in range(settings.seeds) for name in names)]
    if settings.launch.dry_run:
        show_plan(folder, jobs, settings.launch, "networks")
        return []
    work = partial(evaluate_job, settings)
    lines = complete(folder, jobs, work, settings.launch, "networks", watched=True)
    write_summary(folder.path)
    return [write_table(folder.path, lines, folder.facts["commands"])]


@cache
def opened(settings: MethodsSettings) -> tuple[Dataset, Graph, Split]:
    """What all networks of this process come from, and the images that judge them."""
    network = settings.network
    dataset, graph = load_network(network.model, network.data, str(network.weights))
    return dataset, graph, dataset.open_test()


def evaluate_job(settings: MethodsSettings, job: Evaluated) -> dict[str, Any]:
    """What the line of a cell says, or that of the base network.

    Args:
      settings: of the command.
      job: section, name and seed of the cell; ``BASE`` is the base network.
    """
    dataset, graph, test = opened(settings)
    if job == BASE:
        whole = compress(graph.source, Policy.uniform(graph), graph=graph)
        after = judge(whole, whole.variables, dataset, test)
        return {"costs": CostModel(graph).base, "after": after}
    (cell,) = (cell for cell in cells() if (cell.section, cell.name) == job[:2])
    return evaluate(cell, job.seed, settings, graph, dataset, test)


def evaluate(
    cell: Cell, seed: int, settings: MethodsSettings, graph: Graph, dataset: Dataset, test: Split
) -> dict[str, Any]:
    """Test accuracies of a cell before and, if there is one, after fine-tuning; its costs.

    Args:
      cell: the policy, the recipe, and the recipes that are judged before the training.
      seed: of all that is drawn.
      settings: of the study.
      graph: of the base network.
      dataset: what is looked at and trained on.
      test: the images that judge.

    Returns:
      what the cell's line says: ``costs`` by metric, accuracies ``before`` by name and ``after``,
      ``zeros`` in the kernels, ``seconds``.
    """
    start = time.perf_counter()
    policy = cell.policy(graph)
    rounded = any(bits < FLOAT_BITS for bits in policy.act_bits.values())
    costs, before = CostModel(graph).of(policy), {}
    for name, recipe in cell.before:
        statistics = gather_from(graph, recipe, dataset, seed, rounded)
        small = compress(graph.source, policy, graph=graph, statistics=statistics)
        if cell.section == "channels":
            before["pruned"] = judge(small, small.variables, dataset, test)
        if cell.trained:
            small = with_statistics(small, dataset, seed)
        before[name] = judge(small, small.variables, dataset, test)
    if not cell.trained:
        return {"costs": costs, "before": before, "seconds": time.perf_counter() - start}
    statistics = gather_from(graph, cell.recipe, dataset, seed, rounded)
    start_policy = replace(policy, sparsity={}) if cell.gradual else policy
    small = compress(graph.source, start_policy, graph=graph, statistics=statistics)
    small = with_statistics(small, dataset, seed)
    if cell.section == "channels":
        before["repaired"] = judge(small, small.variables, dataset, test)
    project = gradually(graph, policy, settings) if cell.gradual else None
    variables = fine_tune(small, project, seed, settings, graph, dataset)
    after = judge(small, variables, dataset, test)
    zeros = sum(int((np.asarray(variables[layer.kernel]) == 0).sum()) for layer in graph.layers)
    seconds = time.perf_counter() - start
    return {"costs": costs, "before": before, "after": after, "zeros": zeros, "seconds": seconds}


def with_statistics(small: Compressed, dataset: Dataset, seed: int) -> Compressed:
    """The network with its own normalisation statistics, from augmented training images.

    Args:
      small: a sliced network.
      dataset: whose training split.
      seed: of the images.
    """
    rng = np.random.default_rng([seed, 5])
    inputs = [x for x, _ in dataset.training_batches(64, rng, STATISTICS_BATCHES)]
    updated = compiled(lambda variables, x: small.apply(variables, x, True)[1])
    names = set(small.graph.source.variables) - small.graph.source.trainable
    momentum = find_momentum(updated, small.variables, names, inputs[0])
    found = reestimate(updated, small.variables, momentum, inputs)
    return replace(small, variables={**small.variables, **found})


def gradually(graph: Graph, policy: Policy, settings: MethodsSettings) -> Project:
    """Ever more zeros in the kernels, as many at the end as the policy says (Zhu-Gupta)."""
    end = int(GRADUAL * settings.images / BATCH)
    shares = {layer.kernel: policy.sparsity[layer.name] for layer in graph.layers}

    def project(parameters: Variables, step: Any) -> Variables:
        masked = {}
        for name, final in shares.items():
            share = zhu_gupta(step, 0, end, GRADUAL_FROM * final, final)
            masked[name] = parameters[name] * magnitude_mask(parameters[name], share)
        return {**parameters, **masked}

    return project


def fine_tune(
    small: Compressed,
    project: Project | None,
    seed: int,
    settings: MethodsSettings,
    graph: Graph,
    dataset: Dataset,
) -> Variables:
    """The same training for all, distilled from the base network.

    Args:
      small: the network, with the arrays that training begins with.
      project: what is done to the arrays after every step, such as more zeros; None: nothing.
      seed: of the order and the augmentation of the images.
      settings: how many images, and the peak learning rate.
      graph: of the base network.
      dataset: whose training images are used.

    Returns:
      the trained arrays by name.
    """
    base = graph.source
    teacher = compiled(lambda variables, x: as_one(base.apply(variables, x, False)[0]), threads=1)
    epochs = settings.images / len(dataset.train)
    config = FitConfig(
        epochs,
        BATCH,
        settings.learning_rate,
        warmup=0.1,
        seed=seed,
        quantizer_rate=QUANTIZER_RATE,
        # Of integers more digits than bfloat16 has are compared, and all train alike.
        precision="float32",
    )
    return fit(
        small.apply,
        small.variables,
        small.trainable,
        dataset,
        config,
        teacher=lambda x: teacher(base.variables, x),
        distillation=Distillation(0.7, 4.0),
        project=project,
    )


def judge(small: Compressed, variables: Variables, dataset: Dataset, test: Split) -> float:
    """Accuracy on the test split: in ONNX Runtime, or in JAX where numbers are rounded.

    Args:
      small: a sliced network.
      variables: its own, or what training made of them.
      dataset: says how images are normalised.
      test: its test split.
    """
    fixed = {name: jnp.asarray(value) for name, value in variables.items()}

    def logits(x: Any) -> Any:
        return small.apply(fixed, x, False)[0]

    if small.quantized:
        return mean_quality(answering(lambda x: as_one(logits(x))), dataset, test)
    with TemporaryDirectory() as folder:
        path = export_onnx(logits, small.graph.input_shape, Path(folder) / "small.onnx")
        return mean_quality(Session(path).logits, dataset, test)

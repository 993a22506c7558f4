"""Policies a second of a network on this process's device: here, and in PyTorch."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.accelerator.plan import PYTORCH, AcceleratorSettings, Job, Report, Row, depth
from pfrl.compression.recipe import REPAIRED
from pfrl.data import Dataset, Split
from pfrl.evaluation.config import EpisodeConfig

SECONDS, FEWEST, MOST = 3.0, 3, 20
"""How long a row is timed after its first call, and how many calls at least and at most."""
TRAINING, SEARCH = 3_072, 2_500
"""Images of noise."""
IMAGE, CLASSES = (32, 32, 3), 10
CONFIG, RECIPE = EpisodeConfig("finetune", steps=16), REPAIRED
"""What an evaluation does, but for the fidelity and the precision."""
SMALLEST = 0.3
"""Share of a group's channels that a policy keeps at least."""


@dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Attributes:
      dataset, graph: of the network.
      rng: draws policies.
    """

    dataset: Dataset
    graph: Any
    rng: np.random.Generator

    def policy(self) -> Any:
        """A random one."""
        from pfrl.compression.policy import Policy

        keep = {name: float(self.rng.uniform(SMALLEST, 1)) for name in self.graph.groups}
        return replace(Policy.uniform(self.graph), keep=keep)


def measure(settings: AcceleratorSettings, job: Job) -> Iterator[Report]:
    """Every row of a job; what fails is told with its reason, and the others go on."""
    prepared: dict[Any, Any] = {}
    for row in job.rows:
        try:
            if "subject" not in prepared:
                prepared["subject"] = subject(settings, job.network)
            yield (theirs if row.who == PYTORCH else ours)(settings, row, prepared)
        except Exception as error:
            yield Report(row, why=f"{type(error).__name__}: {_first_line(error)}")


def ours(settings: AcceleratorSettings, row: Row, prepared: dict[Any, Any]) -> Report:
    """A population in one call, by an evaluator that is made once for a fidelity and precision."""
    import jax

    from pfrl.compression.prepare import Preparer
    from pfrl.cost import CostModel
    from pfrl.evaluation.evaluator import NetworkEvaluator

    about: Subject = prepared["subject"]
    key = row.fidelity, row.precision
    if key not in prepared:
        config = replace(CONFIG, fidelity=row.fidelity, precision=row.precision)
        costs, seed = CostModel(about.graph), settings.seed
        prepared[key] = NetworkEvaluator(
            about.graph, about.dataset, costs, config, seed, quantized=False, recipe=RECIPE
        )
    evaluator: NetworkEvaluator = prepared[key]
    # The same policies in the first call of every precision, whose ranks are compared.
    first = replace(about, rng=np.random.default_rng([settings.seed, row.population]))

    def call(source: Subject) -> list[float]:
        policies = [source.policy() for _ in range(row.population)]
        return [found.accuracy for found in evaluator.evaluate_batch(policies)]

    prepare = Preparer(evaluator.statistics)
    preparing, _ = timed(lambda: prepare(about.policy()))
    report = timed_row(row, partial(call, first), partial(call, about))
    memory = jax.local_devices()[0].memory_stats() or {}
    peak = memory.get("peak_bytes_in_use")
    return replace(report, preparing=preparing, peak_gib=None if peak is None else peak / 2**30)


def theirs(settings: AcceleratorSettings, row: Row, prepared: dict[Any, Any]) -> Report:
    """The usual way in PyTorch: a policy after the other is pruned, fine-tuned and judged.

    Raises:
      RuntimeError: if PyTorch has no GPU, or Torch-Pruning is not there.
    """
    import torch

    if not (torch.cuda.is_available() or settings.force):
        raise RuntimeError("PyTorch sees no GPU; it may be a build without CUDA")
    from benchmarks.peers_torch import evaluate, removed_outputs
    from pfrl.compression.sliced import compress

    about: Subject = prepared["subject"]
    if PYTORCH not in prepared:
        prepared[PYTORCH] = in_torch(settings, row.network, about)
    device, model, tuning, images = prepared[PYTORCH]
    # What PyTorch does on its own: TensorFloat-32 in convolutions, all digits in products.
    torch.backends.cudnn.allow_tf32 = row.precision != "float32"
    torch.backends.cuda.matmul.allow_tf32 = row.precision != "float32"
    short = row.precision == "bfloat16"
    first = replace(about, rng=np.random.default_rng([settings.seed, row.population]))

    def draw(source: Subject) -> Any:
        small = compress(about.graph.source, source.policy(), graph=about.graph)
        return removed_outputs(about.graph, small.kept)

    def call(removed: Any) -> list[float]:
        with torch.autocast(device, torch.bfloat16, enabled=short):
            found = evaluate(
                model, removed, tuning, images, CONFIG.learning_rate, CONFIG.weight_decay
            )
        return [found.accuracy]

    drawn = iter([draw(first), *(draw(about) for _ in range(MOST))])
    report = timed_row(row, lambda: call(next(drawn)), lambda: call(next(drawn)))
    peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
    return replace(report, peak_gib=peak)


def in_torch(
    settings: AcceleratorSettings, network: str, about: Subject
) -> tuple[str, Any, Any, Any]:
    """``(device, network, batches of the fine-tuning, images that are judged)`` on the GPU."""
    import torch

    from benchmarks.peers_torch import CifarResNet, to_torch, with_weights
    from pfrl.evaluation.validation import batched, split_search

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dataset, config = about.dataset, CONFIG
    model = CifarResNet(depth(network), len(dataset.classes), dataset.image_shape[-1])
    model = with_weights(model, about.graph.source.variables).to(device)
    rng = np.random.default_rng([settings.seed, 1])
    tuning = list(dataset.training_batches(config.batch, rng, config.tuning_steps))
    images = batched(dataset, split_search(dataset.search, config.search_images)[0])
    # All in one batch: a GPU is not full with less.
    x = np.concatenate([x[: len(y)] for x, y in images])
    whole = [(x, np.concatenate([y for _, y in images]))]
    found = [to_torch(tuning, config.batch), to_torch(whole, len(x))]
    tuned_on, judged_on = ([(x.to(device), y.to(device)) for x, y in each] for each in found)
    return device, model, tuned_on, judged_on


def subject(settings: AcceleratorSettings, network: str) -> Subject:
    """The network with its data: real if there are any, else noise and random weights.

    Raises:
      ModelError, DataError, FileError: each with a sentence for the user.
    """
    import jax

    from envs.task import load_network
    from experiments.run.inputs import find_weights
    from experiments.settings.blocks import NetworkBlock
    from pfrl.graph import trace
    from pfrl.models.catalogue import build

    rng = np.random.default_rng([settings.seed, 7])
    if settings.data is not None:
        given = dict(zip(settings.networks, settings.weights, strict=False)).get(network)
        weights = find_weights(NetworkBlock(network, settings.data, weights=given))
        return Subject(*load_network(network, settings.data, str(weights)), rng)
    dataset = noise(np.random.default_rng(settings.seed))
    example = jax.ShapeDtypeStruct((1, *IMAGE), np.float32)
    return Subject(dataset, trace(build(network, CLASSES, IMAGE, settings.seed), example), rng)


def noise(rng: np.random.Generator) -> Dataset:
    """Images of CIFAR's shape with labels that say nothing of them."""
    sizes = [np.arange(count, dtype=np.int32) for count in (TRAINING, SEARCH)]
    splits = [
        Split(rng.integers(0, 256, (len(each), *IMAGE), np.uint8), each % CLASSES) for each in sizes
    ]
    names = tuple(map(str, range(CLASSES)))
    train, search = splits
    return Dataset("noise", train, search, lambda: search, names, (0.5,) * 3, (0.25,) * 3)


def timed_row(row: Row, first: Callable[[], Any], later: Callable[[], Any]) -> Report:
    """A row's report: one call that compiles, and as many others as the time allows."""
    compiling, accuracies = timed(first)
    spent: list[float] = []
    while len(spent) < FEWEST or (sum(spent) < SECONDS and len(spent) < MOST):
        spent.append(timed(later)[0])
    rate = row.population / statistics.median(spent)
    return Report(row, rate, compiling, len(spent), accuracies=tuple(accuracies))


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and what it returns."""
    start = time.perf_counter()
    found = function()
    return time.perf_counter() - start, found


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]

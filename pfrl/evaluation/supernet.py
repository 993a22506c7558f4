"""One shared network, trained once under random policies: a policy is then judged untrained.

The sandwich rule and in-place distillation of universally slimmable networks (Yu and Huang
2019, arXiv 1903.05134): every step adds up the gradients of the whole network on the targets,
and of the smallest and a random one on what the whole one answers.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pfrl.compression.calibration import CalibrationStatistics
from pfrl.compression.masked import Knobs, MaskedNetwork
from pfrl.compression.policy import Policy
from pfrl.compression.prepare import Preparer
from pfrl.cpu.backend import compiled
from pfrl.data import Dataset
from pfrl.evaluation.config import EpisodeConfig
from pfrl.files import load_arrays, save_arrays
from pfrl.graph import Graph, Variables
from pfrl.methods.quantization.uniform import FLOAT_BITS
from pfrl.training.fit import Diverged
from pfrl.training.optimizers import sgd
from pfrl.training.step import Distillation, distilled

log = logging.getLogger(__name__)

LEAST = 0.2
"""Share of the channels that the smallest network keeps, and the random ones at the least."""
BITS = (2, 3, 4, 5, 6, 7, 8, FLOAT_BITS)
SPARSEST = 0.9


def random_policy(
    graph: Graph, rng: np.random.Generator, quantized: bool = False, sparse: bool = False
) -> Policy:
    """A random share of the channels in every group.

    Args:
      graph: whose policy.
      rng: what it is drawn by.
      quantized, sparse: whether bit widths and shares of zeros are drawn too.
    """
    names = [layer.name for layer in graph.layers]
    keep = {group: float(rng.uniform(LEAST, 1)) for group in graph.groups}
    widths = [
        {name: int(rng.choice(BITS)) if quantized else FLOAT_BITS for name in names}
        for _ in range(2)
    ]
    zeros = {name: float(rng.uniform(0, SPARSEST)) for name in names} if sparse else {}
    return Policy(keep, widths[0], widths[1], sparsity=zeros)


def train_supernet(
    network: MaskedNetwork,
    statistics: CalibrationStatistics,
    dataset: Dataset,
    config: EpisodeConfig,
    seed: int,
    quantized: bool = False,
    sparse: bool = False,
) -> Variables:
    """The base network's variables after ``config.supernet_steps`` steps under random policies.

    Statistics of normalisations are those of the base: every policy has its own, which are
    re-estimated. What quantizers learn is not shared: it starts anew with every policy.

    Args:
      network: takes any policy as traced values.
      statistics: what the recipe needs to know of the base network.
      dataset, config, seed: of the training.
      quantized, sparse: whether random policies round numbers, or have zeros.

    Raises:
      Diverged: if the loss was no number.
    """
    graph, steps = network.graph, config.supernet_steps
    prepare = Preparer(statistics)
    own = graph.source.trainable
    soft = Distillation(1.0, 1.0, divergence=dataset.task.divergence)
    falling = optax.cosine_decay_schedule(config.supernet_learning_rate, steps)
    optimizer = sgd(falling, config.weight_decay)

    def objective(parameters, rest, x, targets, teacher, knobs):
        outputs, _ = network.apply({**rest, **parameters}, x, True, knobs)
        value = dataset.task.loss(outputs, targets)
        return (value if teacher is None else distilled(value, outputs, teacher, soft)), outputs

    gradient = compiled(jax.value_and_grad(objective, has_aux=True))

    @jax.jit
    def update(parameters, state, gradients):
        total = jax.tree.map(lambda *parts: sum(parts) / len(parts), *gradients)
        updates, state = optimizer.update(total, state, parameters)
        return optax.apply_updates(parameters, updates), state

    def start(policy: Policy) -> tuple[Variables, Knobs]:
        prepared = prepare(policy)
        knobs = network.knobs(policy, prepared, statistics.ranges(policy))
        return network.start(prepared, knobs), knobs

    widths = (min(BITS),) * 2 if quantized else ()
    smallest = Policy.uniform(graph, LEAST, *widths)
    variables: dict[str, Any] = dict(start(Policy.uniform(graph))[0])
    parameters = {name: jnp.asarray(variables[name]) for name in own}
    state = optimizer.init(parameters)
    rng, loss = np.random.default_rng([seed, 5]), jnp.zeros(())
    fixed = [start(policy) for policy in (Policy.uniform(graph), smallest)]
    batches = dataset.training_batches(config.batch, rng, steps)
    for count, (x, targets) in enumerate(batches):
        log.info("training the shared network: step %d of %d", count + 1, steps)
        chosen = [*fixed, start(random_policy(graph, rng, quantized, sparse))]
        gradients, teacher = [], None
        for values, knobs in chosen:
            rest = {name: value for name, value in values.items() if name not in own}
            (value, outputs), found = gradient(parameters, rest, x, targets, teacher, knobs)
            if teacher is None:
                teacher, loss = outputs, value
            gradients.append(found)
        parameters, state = update(parameters, state, gradients)
    if not np.isfinite(loss):
        raise Diverged(f"the loss of the shared network is {loss}")
    return {**graph.source.variables, **{k: np.asarray(v) for k, v in parameters.items()}}


class Shared(NamedTuple):
    """A shared network.

    Attributes:
      variables: of the base network, after the training.
      seconds: of training, now.
      spent_before: of training, by whoever wrote the file that it was read from.
    """

    variables: Variables
    seconds: float
    spent_before: float


def read_or_train(path: Path | None, train: Callable[[], Variables]) -> Shared:
    """The shared network of a file, or a new one that is kept there.

    Args:
      path: named after all that decides about the training; None keeps nothing.
      train: makes the variables.

    Raises:
      Diverged: if the training diverges.
      FileError: if the file cannot be read or written.
    """
    if path is not None and path.exists():
        arrays, facts = load_arrays(path)
        return Shared(arrays, 0.0, float(facts.get("seconds", 0)))
    start = time.perf_counter()
    trained = train()
    seconds = time.perf_counter() - start
    if path is not None:
        save_arrays(path, trained, {"network": "supernet", "seconds": seconds})
    return Shared(trained, seconds, 0.0)

"""Stages of a network, and auxiliary heads that say what is known of the labels at their ends."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pfrl.graph import Graph, Variables
from pfrl.graph.kernels import positions_of
from pfrl.methods.inputs import LayerInput, Reducer, collect, listed, read_inputs
from pfrl.tasks.losses import Loss

Batches = Sequence[tuple[Any, Any]]
"""``(inputs [N, ...], labels)``."""

EPSILON = 1e-5
"""Added to variances, as in a batch normalisation."""


class StageError(ValueError):
    """A network that no auxiliary head can be put on; the message says what is expected."""


class Head(NamedTuple):
    """Batch normalisation, ReLU, mean over positions and a linear layer.

    Attributes:
      layer: whose input it looks at, ``F`` features at every position.
      mean, scale: ``[F]``, of the normalisation: the features' mean, and one over their
        standard deviation.
      kernel: ``[F, ...]``, to outputs of the shape of the network's.
      bias: ``[...]``.
    """

    layer: str
    mean: jax.Array
    scale: jax.Array
    kernel: jax.Array
    bias: jax.Array

    def __call__(self, features: jax.Array) -> jax.Array:
        """Outputs ``[N, ...]`` for features ``[N, positions, F]``."""
        pooled = _pooled(features, self.mean, self.scale)
        return jnp.tensordot(pooled, self.kernel, 1) + self.bias


def stage_ends(graph: Graph, x: Any, stages: int) -> list[str]:
    """The layers whose inputs are the features at the ends of all stages but the last.

    They are those before which the share of the network's MACs is nearest to ``1 / stages``,
    ``2 / stages`` and so on. Where the same layer is nearest to several there are fewer
    stages; the input of the first layer is no end.

    Args:
      graph: of the network.
      x: inputs ``[N, ...]``; layers whose inputs do not start with ``N`` examples are no ends.
      stages: at least 1.

    Raises:
      StageError: if ``stages`` is less than 1.
    """
    if stages < 1:
        raise StageError(f"expected at least one stage, got {stages}")
    labelled, _ = graph.program(x, False)
    examples = jax.tree.leaves(x)[0].shape[0]
    macs = np.array([layer.macs for layer in graph.layers])
    before = np.cumsum(macs) - macs
    usable = np.array([positions_of(labelled, n)[0] == examples for n in labelled.kernels])
    usable[0] = False
    if not usable.any():
        return []
    wanted = macs.sum() * np.arange(1, stages) / stages
    distances = np.where(usable, np.abs(before - wanted[:, None]), np.inf)
    return [graph.layers[i].name for i in np.unique(distances.argmin(axis=1))]


def watch(
    graph: Graph, variables: Variables, x: Any, layers: Collection[str]
) -> tuple[Any, dict[str, jax.Array]]:
    """Outputs in evaluation mode, and by layer the features ``[N, positions, F]`` that it reads."""
    return read_inputs(
        graph, variables, x, lambda read: _features(read) if read.layer in layers else None
    )


def fit_heads(
    graph: Graph,
    variables: Variables,
    batches: Batches,
    ends: Sequence[str],
    loss: Loss,
    steps: int = 200,
) -> list[Head]:
    """A head at the end of every stage but the last, trained on the network as it is.

    The normalisation takes the statistics of the batches and has no other parameters; the
    linear layer starts at zero and takes ``steps`` of Adam (learning rate 0.05) on the
    pooled features of all batches at once, which costs next to nothing.

    Args:
      graph: of the network.
      variables: its arrays, which stay as they are.
      batches: at least one.
      ends: from ``stage_ends``.
      loss: of the head's outputs and the labels.
      steps: of the optimiser.

    Raises:
      StageError: if the network's output is not one array, which the heads would have to imitate.
    """
    if not ends:
        return []

    outputs, _ = jax.eval_shape(lambda v, x: watch(graph, v, x, ()), variables, batches[0][0])
    if len(jax.tree.leaves(outputs)) != 1:
        raise StageError(
            f"the network has {len(jax.tree.leaves(outputs))} outputs, and a stage's head imitates"
            " one; choose channels with stages=1"
        )
    inputs = [x for x, _ in batches]
    reducer = Reducer(_mean_squares, lambda x: dict.fromkeys(ends), listed)
    (moments,) = collect(graph, variables, inputs, [reducer])
    norms = {name: _norm(np.mean(each, axis=0)) for name, each in moments.items()}
    reducer = Reducer(lambda read, norm: _pooled(_features(read), *norm), lambda x: norms, listed)
    (pooled,) = collect(graph, variables, inputs, [reducer])
    labels = jax.tree.map(lambda *parts: np.concatenate(parts), *(y for _, y in batches))
    shape = jax.tree.leaves(outputs)[0].shape[1:]
    heads = []
    for name in ends:
        linear = _fit(np.concatenate(pooled[name]), labels, shape, loss, steps)
        heads.append(Head(name, *norms[name], *linear))
    return heads


def _fit(
    features: np.ndarray, labels: Any, shape: tuple[int, ...], loss: Loss, steps: int
) -> tuple[jax.Array, jax.Array]:
    """Kernel ``[F, *shape]`` and bias ``[*shape]`` of a linear layer."""
    optimizer = optax.adam(0.05)

    def objective(linear: tuple[jax.Array, jax.Array]) -> jax.Array:
        return loss(jnp.tensordot(features, linear[0], 1) + linear[1], labels)

    def step(_: int, carried: Any) -> Any:
        linear, state = carried
        updates, state = optimizer.update(jax.grad(objective)(linear), state)
        return optax.apply_updates(linear, updates), state

    @jax.jit
    def train() -> Any:
        start = jnp.zeros((features.shape[1], *shape)), jnp.zeros(shape)
        return jax.lax.fori_loop(0, steps, step, (start, optimizer.init(start)))[0]

    return train()


def _norm(moments: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Mean and one over the standard deviation, of mean and mean square ``[2, F]``."""
    mean, square = moments.astype(np.float64)
    variance = np.maximum(square - mean**2, 0)
    scale = 1 / np.sqrt(variance + EPSILON)
    return jnp.asarray(mean, jnp.float32), jnp.asarray(scale, jnp.float32)


def _pooled(features: jax.Array, mean: Any, scale: Any) -> jax.Array:
    return jax.nn.relu((features - mean) * scale).mean(axis=1)


def _mean_squares(read: LayerInput, _: None) -> jax.Array:
    """Mean and mean square of the features, ``[2, F]``."""
    features = _features(read)
    return jnp.stack([features.mean((0, 1)), (features * features).mean((0, 1))])


def _features(read: LayerInput) -> jax.Array:
    """What a layer reads as ``[N, positions, F]``."""
    _, x, labelled, number = read
    equation = labelled.program.equations[number]
    numbers = equation.params["dimension_numbers"]
    if equation.name == "conv_general_dilated":
        batch, features, *space = numbers.lhs_spec
        free, taken = [batch, *space], [features]
    else:
        contract, batch = (sides[1 - labelled.kernels[number]] for sides in numbers)
        taken = [*contract, *batch]
        free = [axis for axis in range(x.ndim) if axis not in taken]
    reads = int(np.prod([x.shape[axis] for axis in taken], dtype=int))
    return x.transpose(*free, *taken).reshape(x.shape[free[0]], -1, reads)

"""Policy to compressed network: the same program on sliced parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pfrl.graph import Graph, Source, Variables
from pfrl.graph.frontends import as_source
from pfrl.graph.layers import find_layers
from pfrl.graph.slicing import run
from pfrl.methods.channels import choose, l1_scores
from pfrl.methods.masks import slice_variables
from pfrl.methods.quantize import fake_quantize_activations, fake_quantize_weights
from pfrl.policy import FLOAT_BITS, Policy

Ranges = Mapping[str, tuple[float, float]]
"""Calibrated ``(low, high)`` of every layer's input."""


@dataclass(frozen=True, eq=False)
class Compressed:
    """A smaller network: call it, train it (``apply``), export it.

    Attributes:
      graph: of the network that it came from.
      policy: what was done.
      kept: channels of every group that remain.
      variables: the sliced arrays, names as in the original.
      ranges: where activations are quantized, their ranges.
    """

    graph: Graph
    policy: Policy
    kept: Mapping[str, np.ndarray]
    variables: Variables
    ranges: Ranges | None = None

    def __call__(self, *inputs: Any) -> Any:
        """Outputs in evaluation mode for inputs of any batch size."""
        return self.apply(self.variables, inputs[0] if len(inputs) == 1 else inputs, False)[0]

    def apply(self, variables: Variables, x: Any, train: bool) -> tuple[Any, Variables]:
        """As ``Source.apply``, on sliced variables."""
        labelled, _ = self.graph.program(x, train)
        removed = self.graph.removed_atoms(labelled, self.kept)
        return run_graph(self.graph, variables, x, train, removed, self._quantizer())

    def _quantizer(self) -> "LayerHook | None":
        bits = {*self.policy.weight_bits.values(), *self.policy.act_bits.values()}
        if bits <= {FLOAT_BITS}:
            return None

        def quantize(name: str, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
            kernel = fake_quantize_weights(kernel, jnp.asarray(self.policy.weight_bits[name]))
            if self.policy.act_bits[name] < FLOAT_BITS:
                if self.ranges is None:
                    raise ValueError(
                        f"layer '{name}' has quantized activations but no calibrated range;"
                        " give ranges=pfrl.calibrate(...)"
                    )
                bits = jnp.asarray(self.policy.act_bits[name])
                low, high = map(jnp.asarray, self.ranges[name])
                x = fake_quantize_activations(x, bits, low, high)
            return x, kernel

        return quantize

    def save(self, directory: Path) -> Path:
        """Write it so that ``pfrl.load`` runs and trains it without the code that defined it."""
        from pfrl.artefact import save

        return save(self, directory)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one example."""
        return self.graph.macs_at(self.policy.counts(self.graph))

    @property
    def params(self) -> int:
        """Trainable elements, counted in the sliced arrays."""
        return sum(int(np.size(self.variables[name])) for name in self.graph.source.trainable)


LayerHook = Callable[[str, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""``(layer name, activation, kernel) -> (activation, kernel)``."""


def run_graph(
    graph: Graph,
    variables: Variables,
    x: Any,
    train: bool,
    removed: np.ndarray | None = None,
    hook: LayerHook | None = None,
) -> tuple[Any, Variables]:
    """Run a graph's program on variables by name, as ``Source.apply`` would."""
    labelled, tree = graph.program(x, train)
    layers = {} if hook is None else find_layers(labelled, sorted(graph.source.variables))
    on_layer = None if hook is None else lambda number, x, w: hook(layers[number], x, w)
    leaves = [jnp.asarray(variables[name]) for name in sorted(graph.source.variables)]
    results = run(labelled, [*leaves, *jax.tree.leaves(x)], removed, on_layer)
    outputs, statistics = jax.tree.unflatten(tree, results)
    names = [name for name in sorted(graph.source.variables) if name not in graph.source.trainable]
    return outputs, dict(zip(names, statistics, strict=True))


def compress(
    model: Any,
    policy: Policy,
    *,
    graph: Graph,
    variables: Variables | None = None,
    ranges: Ranges | None = None,
) -> Compressed:
    """Remove channels (largest L1 norms stay) and set bit widths as the policy says.

    Args:
      model: the network that ``graph`` was traced from; a module's arrays of now are taken.
      policy: see ``Policy``.
      graph: of ``model``.
      variables: arrays to slice; those of ``model`` by default.
      ranges: for quantized activations, from ``calibrate``.

    Raises:
      PolicyError: if the policy does not fit the graph.
    """
    policy = policy.checked(graph)
    if variables is None:
        own = isinstance(model, nnx.Module | Source)
        variables = (as_source(model) if own else graph.source).variables
    kept = choose(l1_scores(graph, variables), policy.counts(graph))
    return Compressed(graph, policy, kept, slice_variables(graph, variables, kept), ranges)

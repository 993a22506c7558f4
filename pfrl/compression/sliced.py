"""Policy to compressed network: the same program on sliced parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pfrl.compression.calibration import CalibrationStatistics, gather_statistics
from pfrl.compression.policy import Policy
from pfrl.compression.prepare import Prepared, Preparer
from pfrl.compression.recipe import PLAIN, Recipe
from pfrl.compression.rounding import Quantizer, Ranges, Rounding, slice_quantizers
from pfrl.compression.saved import save
from pfrl.graph import Graph, Source, Variables
from pfrl.graph.frontends import as_source
from pfrl.graph.labelled.labels import Labelled
from pfrl.graph.layers import find_layers
from pfrl.graph.masks import kept_places, slice_variables
from pfrl.graph.sites import places
from pfrl.graph.slicing import OnLayer, OnValue, run
from pfrl.methods.quantization.uniform import FLOAT_BITS


@dataclass(frozen=True, eq=False)
class Compressed:
    """A smaller network: call it, train it (``apply``), export it.

    Attributes:
      graph: of the network that it came from.
      policy: what was done.
      kept: channels of every group that remain.
      variables: the sliced arrays, names as in the original, and those of the quantizers.
      recipe: how it was done.
      weight_masks: by kernel, which weights of a sparse layer are not zero (bool).
      ranges: where activations are quantized, their ranges.
    """

    graph: Graph
    policy: Policy
    kept: Mapping[str, np.ndarray]
    variables: Variables
    recipe: Recipe = PLAIN
    weight_masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    ranges: Ranges = field(default_factory=dict)

    def __call__(self, *inputs: Any) -> Any:
        """Outputs in evaluation mode for inputs of any batch size."""
        return self.apply(self.variables, inputs[0] if len(inputs) == 1 else inputs, False)[0]

    def apply(self, variables: Variables, x: Any, train: bool) -> tuple[Any, Variables]:
        """As ``Source.apply``, on sliced variables."""
        labelled, _ = self.graph.program(x, train)
        removed = self.graph.removed_atoms(labelled, self.kept)
        rounding = self.rounding(variables)
        own = {name: variables[name] for name in self.graph.source.variables}
        for name, mask in self.weight_masks.items():
            # Zero weights are zero as it is; their gradients would not be.
            own[name] = own[name] * mask if train else own[name]
        outputs, statistics = run_graph(self.graph, own, x, train, removed, rounding)
        fixed = variables.keys() - own.keys() - self.trainable
        return outputs, statistics | {name: variables[name] for name in fixed}

    @property
    def trainable(self) -> frozenset[str]:
        """Names of the variables that gradients go to."""
        own = self.graph.source.trainable
        return own | Quantizer(self.graph, self.recipe).trained if self.quantized else own

    @property
    def quantized(self) -> bool:
        """Whether any layer is rounded."""
        bits = {*self.policy.weight_bits.values(), *self.policy.act_bits.values()}
        return not bits <= {FLOAT_BITS}

    def rounding(self, variables: Variables) -> Rounding | None:
        """How it is rounded while it runs; None if it is not."""
        if not self.quantized:
            return None
        quantizer = Quantizer(self.graph, self.recipe)
        widths = quantizer.bit_widths(self.policy, self.ranges)
        return quantizer.rounding(variables, widths, self.weight_masks)

    def save(self, directory: Path) -> Path:
        """Write it so that ``pfrl.load`` runs and trains it without the code that defined it."""
        return save(self, directory)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one example."""
        return self.graph.macs_at(self.policy.counts(self.graph))

    @property
    def params(self) -> int:
        """Trainable elements, counted in the sliced arrays."""
        return sum(int(np.size(self.variables[name])) for name in self.graph.source.trainable)


def run_graph(
    graph: Graph,
    variables: Variables,
    x: Any,
    train: bool,
    removed: np.ndarray | None = None,
    rounding: Rounding | None = None,
) -> tuple[Any, Variables]:
    """Run a graph's program on variables by name, as ``Source.apply`` would.

    Args:
      graph: of the network.
      variables: all of its arrays by name, sliced if ``removed`` says so.
      x: the inputs, a pytree as it was traced, at any batch size.
      train: whether in training mode.
      removed: bool by atom, what the variables have lost (``Graph.removed_atoms``); None: nothing.
      rounding: how numbers are rounded at the sites; None: not at all.

    Returns:
      the outputs, and the variables that are not trained as they are after the call.
    """
    labelled, tree = graph.program(x, train)
    on_layer, on_value = _hooks(graph, labelled, train, rounding)
    leaves = [jnp.asarray(variables[name]) for name in sorted(graph.source.variables)]
    results = run(labelled, [*leaves, *jax.tree.leaves(x)], removed, on_layer, on_value)
    outputs, statistics = jax.tree.unflatten(tree, results)
    names = [name for name in sorted(graph.source.variables) if name not in graph.source.trainable]
    return outputs, dict(zip(names, statistics, strict=True))


def _hooks(
    graph: Graph, labelled: Labelled, train: bool, rounding: Rounding | None
) -> tuple[OnLayer | None, OnValue | None]:
    """How ``run`` rounds."""
    if rounding is None:
        return None, None
    layers = find_layers(labelled, sorted(graph.source.variables))
    round_kernel, round_site, on_result = rounding

    def on_layer(number: int, x: Any, kernel: Any) -> tuple[Any, Any]:
        return x, round_kernel(layers[number], kernel)

    if round_site is None and on_result is None:
        return on_layer, None
    equations = labelled.program.equations
    made = {equations[number].outputs[0]: name for number, name in layers.items()}
    at = places(graph, len(labelled.program.shapes), train)

    def on_value(number: int, value: Any) -> Any:
        if on_result is not None and number in made:
            value = on_result(made[number], value)
        return round_site(at[number], value) if round_site and number in at else value

    return on_layer, on_value


def compress(
    model: Any,
    policy: Policy,
    *,
    graph: Graph,
    variables: Variables | None = None,
    ranges: Ranges | None = None,
    recipe: Recipe | None = None,
    statistics: CalibrationStatistics | None = None,
) -> Compressed:
    """Remove channels, make kernels sparse and set bit widths as the policy says.

    Args:
      model: the network that ``graph`` was traced from; a module's arrays of now are taken.
      policy: how much of everything; see ``Policy``.
      graph: of ``model``.
      variables: arrays to slice; those of ``model`` by default.
      ranges: for quantized activations; by default those of the statistics.
      recipe: by which methods; without one the largest L1 norms stay and nothing is repaired.
      statistics: of the base network, from ``pfrl.gather_statistics``; their variables and
        recipe are taken. Needed by recipes that look at data.

    Raises:
      PolicyError: if the policy does not fit the graph.
      RecipeError: if the recipe names an unknown method, or looks at data and there are no
        statistics.
    """
    policy = policy.checked(graph)
    if statistics is None:
        if variables is None:
            own = isinstance(model, nnx.Module | Source)
            variables = (as_source(model) if own else graph.source).variables
        statistics = gather_statistics(graph, recipe or PLAIN, variables=variables)
    prepared = Preparer(statistics)(policy)
    if ranges is None:
        ranges = statistics.ranges(policy)
    return assemble(graph, policy, prepared, statistics.recipe, ranges)


def assemble(
    graph: Graph,
    policy: Policy,
    prepared: Prepared,
    recipe: Recipe,
    ranges: Ranges,
    tuned: Variables | None = None,
) -> Compressed:
    """The sliced network of what was prepared at full size; nothing compiles for its shapes
    if ``tuned`` is given.

    Args:
      graph: of the base network.
      policy: that was prepared.
      prepared: kept channels, arrays and weight masks at full size.
      recipe: by which it was prepared.
      ranges: of the activations at every site, at the policy's bits.
      tuned: what training made of the prepared variables and of those of the quantizers, at
        full size; by default the quantizers' start at the sliced kernels.

    Raises:
      RecipeError: if the policy's bits do not fit the recipe, or a rounded site has no range.
    """
    places = kept_places(graph, prepared.kept)
    whole = prepared.variables if tuned is None else {n: tuned[n] for n in prepared.variables}
    variables = slice_variables(graph, whole, prepared.kept)
    masks = {name: mask[np.ix_(*places[name])] for name, mask in prepared.weight_masks.items()}
    small = Compressed(graph, policy, prepared.kept, variables, recipe, masks, ranges)
    if not small.quantized:
        return small
    if tuned is not None:
        own = slice_quantizers(graph, recipe, tuned, prepared.kept)
        return replace(small, variables=variables | own)
    quantizer = Quantizer(graph, recipe)
    started = quantizer.start(variables, quantizer.bit_widths(policy, ranges), masks)
    return replace(small, variables=variables | started)

"""Bias correction: the mean shift that a rounded kernel causes is taken out again.

Nagel et al. 2019, arXiv 1906.04721, section 4.2. They change the bias of a layer that a
normalisation was folded into; here it is whatever array the program adds behind the layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.graph import Graph, Variables
from pfrl.graph.addends import find_addends, output_axes
from pfrl.graph.labelled.labels import Labelled
from pfrl.graph.layers import find_layers, kernel_name
from pfrl.graph.slicing import run


class BiasCorrectionError(ValueError):
    """Arrays that do not fit the network; the message says what was expected."""


class BiasCorrection:
    """Makes arrays with which the rounding of a kernel leaves its layer's mean output as it was.

    The shift ``E[(Q(W) - W) x] = (Q(W) - W) E[x]`` of every output channel, as mean over
    its positions, is taken out of the array that is added behind the layer (see
    ``find_addends``): that changes by minus the shift, times the factors between them. A
    layer without such an array is left alone; an array behind several layers changes by
    the mean of what they ask for. Not corrected is what the rounding of activations and of
    the layers before does to ``x``.

    What it compiles, it compiles once.

    Args:
      graph: of the network.
    """

    def __init__(self, graph: Graph):
        self._graph, self._names = graph, sorted(graph.source.variables)
        self._labelled = graph.evaluation()
        self._layers = find_layers(self._labelled, self._names)
        self._addends = find_addends(self._labelled, self._names)
        self._changes = jax.jit(self._find_changes)

    def __call__(
        self,
        variables: Variables,
        quantized: Mapping[str, Any],
        means: Mapping[str, np.ndarray],
    ) -> Variables:
        """The variables, kernels unrounded, with the corrected arrays in NumPy.

        Args:
          variables: the network's arrays, of full size.
          quantized: the rounded kernels by name; they differ from the variables only where
            channels remain.
          means: of every layer's input: ``MeanInput.mean`` of
            ``pfrl.methods.quantization.ranges``.

        Raises:
          BiasCorrectionError: if a name is no kernel's, or a layer's mean is missing.
        """
        self._check(quantized, means)
        plain = {name: jnp.asarray(variables[name]) for name in self._names}
        means = {name: means[name] for name in self._layers.values()}
        wanted: dict[str, list[np.ndarray]] = {}
        for number, change in self._changes(plain, {**plain, **quantized}, means).items():
            if kernel_name(self._labelled, self._names, number) in quantized:
                wanted.setdefault(self._addends[number].variable, []).append(np.asarray(change))
        corrected = dict(variables)
        for name, each in wanted.items():
            value = np.asarray(variables[name])
            change = np.mean(each, axis=0).reshape(value.shape)
            corrected[name] = (value + change).astype(value.dtype)
        return corrected

    def _check(self, quantized: Mapping[str, Any], means: Mapping[str, np.ndarray]) -> None:
        strange = quantized.keys() - {layer.kernel for layer in self._graph.layers}
        if strange:
            raise BiasCorrectionError(
                f"expected rounded kernels of layers by name, got '{min(strange)}'"
            )
        missing = set(self._layers.values()) - means.keys()
        if missing:
            raise BiasCorrectionError(
                f"expected the mean input of every layer, got none for '{min(missing)}';"
                " take those of pfrl.methods.quantization.ranges.mean_inputs"
            )

    def _find_changes(
        self, plain: Variables, rounded: Variables, means: Mapping[str, Any]
    ) -> dict[int, jax.Array]:
        """By layer, how the array behind it changes, ``[1, ..., O]`` as it is added."""
        labelled, found = self._labelled, {}
        kernels = {number: _kernel(labelled, number) for number in self._addends}
        factors = {v for addend in self._addends.values() for v in addend.factors}
        before = self._values([*kernels.values(), *factors], plain)
        after = self._values([*kernels.values()], rounded)
        for number, (_, scale, mine) in self._addends.items():
            rounding = _difference(after[kernels[number]], before[kernels[number]])
            mean = means[self._layers[number]]
            change = -scale * _mean_output(labelled, number, mean, rounding)
            for factor in mine:
                change = change * before[factor]
            found[number] = change
        return found

    def _values(self, wanted: Sequence[int], variables: Variables) -> dict[int, jax.Array]:
        """Values of the program that do not depend on its input, by number."""
        program = replace(self._labelled.program, outputs=list(wanted))
        arguments = [variables[name] for name in self._names]
        arguments += [jnp.zeros(x.shape, x.dtype) for x in self._graph.inputs]
        values = run(replace(self._labelled, program=program), arguments)
        return dict(zip(wanted, values, strict=True))


def _kernel(labelled: Labelled, number: int) -> int:
    """The value that a layer takes as its kernel."""
    operand = labelled.program.equations[number].inputs[labelled.kernels[number]]
    assert isinstance(operand, int)
    return operand


def _difference(new: jax.Array, old: jax.Array) -> jax.Array:
    """In float32, as the mean inputs are."""
    return new.astype(jnp.float32) - old.astype(jnp.float32)


def _mean_output(labelled: Labelled, number: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """What a layer makes of an input with a kernel, as mean over all axes but the channels'."""
    equation = labelled.program.equations[number]
    operands = [kernel, x] if labelled.kernels[number] == 0 else [x, kernel]
    output = equation.primitive.bind(*operands, **equation.params)
    channels = output_axes(labelled, number)
    return output.mean([a for a in range(output.ndim) if a not in channels], keepdims=True)

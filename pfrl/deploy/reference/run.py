"""A network in NumPy as its file defines it: codes between operations, int32 sums within them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pfrl.deploy.litert.patterns import find_biases
from pfrl.deploy.operators.graph import Node, OperatorGraph
from pfrl.deploy.operators.quantized import (
    MOVING,
    OUTPUT_AXIS,
    Grid,
    Quantization,
    is_integer,
    settle,
)
from pfrl.deploy.reference.operators import MOVES, OPERATORS, pad
from pfrl.deploy.runtimes.base import in_a_row

SUM_DIGITS = 21
"""Binary digits of the larger factor by which XNNPACK scales what it adds up."""


class Reference:
    """Runs an operator graph.

    Layers with integer kernels sum up products of codes, which is exact; the sums are scaled in
    single precision and rounded to even, as ONNX Runtime does it. Everything else is computed in
    double precision on the values of the codes, and where its result is on a grid it is divided by
    the step in single precision, as the formats define it, and rounded: of 16 grey levels one is in
    the middle of two of 255 steps, and falls to another side in double precision.

    Args:
      graph: of a network; either layout.
      quantization: its grids; without any it is computed in floating point.
      litert: whether it is done as LiteRT with XNNPACK does it, and not as ONNX Runtime: sums of
        two tensors are scaled by integers, all biases rounded, and floats multiplied by one over
        the step. Few codes are one off for that, but a deep network makes more of them.
    """

    def __init__(
        self,
        graph: OperatorGraph,
        quantization: Quantization | None = None,
        litert: bool = False,
    ):
        self._litert = litert
        self._quantization = quantization or Quantization({}, {})
        self._graph = graph.copy()
        self._grids = settle(self._graph, self._quantization)
        if litert:
            find_biases(self._graph, self._grids)
        self.sites = {
            name: site for name in self._grids if (site := self._graph.site(name)) is not None
        }
        """Names of the sites by tensor."""

    def __call__(self, images: np.ndarray, batch: int = 500) -> np.ndarray:
        """Outputs ``[N, ...]`` for images ``[N, H, W, C]``, float32; several in a row."""
        pieces = [images[start : start + batch] for start in range(0, len(images), batch)]
        return np.concatenate([self._run(piece)[1] for piece in pieces])

    def values(self, images: np.ndarray) -> dict[str, tuple[Node, np.ndarray]]:
        """By tensor what makes it, and its numbers, in the order of execution."""
        values, _ = self._run(images)
        return {
            node.output: (node, self._operand(values, node.output)) for node in self._graph.nodes
        }

    def one_by_one(
        self, images: np.ndarray, found: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[Node, np.ndarray]]:
        """Every operation by itself: of what a runtime has for all before it.

        Args:
          images: ``[N, H, W, C]``.
          found: by tensor the numbers of a runtime, as far as it has them.

        Yields:
          an operation whose result was found, and what the reference makes of its operands.
        """
        values: dict[str, np.ndarray] = {}
        self._put(values, self._graph.source, np.asarray(images, np.float64))
        for node in self._graph.nodes:
            with np.errstate(all="ignore"):
                self._step(values, node)
            if (name := node.output) in found:
                yield node, self._operand(values, name)
                self._put(values, name, np.asarray(found[name], np.float64))

    def codes(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """By tensor that is on a grid its codes, uint8."""
        values, _ = self._run(images)
        return {name: values[name].astype(np.uint8) for name in self._grids if name in values}

    def _run(self, images: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        graph = self._graph
        values: dict[str, np.ndarray] = {}
        self._put(values, graph.source, np.asarray(images, np.float64))
        with np.errstate(all="ignore"):
            for node in graph.nodes:
                self._step(values, node)
        outputs = [self._operand(values, name).astype(np.float32) for name in graph.outputs]
        return values, in_a_row(outputs)

    def _put(self, values: dict[str, np.ndarray], name: str, found: np.ndarray) -> None:
        """Keep a result: its codes, if it is on a grid; a tie is one in single precision."""
        grid = self._grids.get(name)
        if grid is not None:
            single, scale = found.astype(np.float32), np.float32(grid.scale)
            steps = single * (np.float32(1) / scale) if self._litert else single / scale
            found = _codes(steps, grid)
        values[name] = found

    def _step(self, values: dict[str, np.ndarray], node: Node) -> None:
        graph, grids = self._graph, self._grids
        integer = is_integer(graph, node, grids, self._quantization)
        if integer and node.op in OUTPUT_AXIS:
            found = self._layer(values, node)
            grid = grids.get(node.output)
            values[node.output] = found if grid is None else _codes(found, grid)
        elif integer and node.op == "Add" and self._litert:
            codes = [(values[name], grids[name]) for name in node.inputs]
            values[node.output] = _fixed_sum(codes, grids[node.output])
        elif (
            integer
            and node.op in (*MOVING, "Concat", "Pad")
            and grids[node.output].same_steps(grids[node.inputs[0]])
        ):
            values[node.output] = self._moved(values, node)
        else:
            operands = [self._operand(values, name) for name in node.inputs]
            self._put(values, node.output, OPERATORS[node.op](graph, node, operands))

    def _operand(self, values: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        if name in self._graph.constants:
            return self._graph.constants[name]
        grid = self._grids.get(name)
        return values[name] if grid is None else _numbers(values[name], grid)

    def _moved(self, values: Mapping[str, np.ndarray], node: Node) -> np.ndarray:
        """On codes."""
        grid = self._grids[node.output]
        if node.op in ("Relu", "Clip"):
            low = 0.0 if node.op == "Relu" else node.attributes.get("min", -np.inf)
            high = np.inf if node.op == "Relu" else node.attributes.get("max", np.inf)
            return np.clip(values[node.inputs[0]], grid.code(low), grid.code(high))
        if node.op == "Pad":
            return pad(values[node.inputs[0]], node, grid.zero_point)
        operands = [
            self._graph.constants[name] if name in self._graph.constants else values[name]
            for name in node.inputs
        ]
        return MOVES[node.op](self._graph, node, operands)

    def _layer(self, values: Mapping[str, np.ndarray], node: Node) -> np.ndarray:
        """The sums of a layer in steps of the grid of its result, or as numbers without one."""
        graph, grid = self._graph, self._grids[node.inputs[0]]
        axis, steps = OUTPUT_AXIS[node.op], self._quantization.steps[node.inputs[1]]
        kernel = graph.constants[node.inputs[1]]
        others = [i for i in range(kernel.ndim) if i != axis]
        operands: list[Any] = [
            values[node.inputs[0]].astype(np.float64) - grid.zero_point,
            np.round(kernel / np.expand_dims(steps, others)),
        ]
        scale = np.float32(grid.scale) * steps.astype(np.float32)
        if len(node.inputs) > 2:
            operands.append(np.rint(graph.constants[node.inputs[2]] / scale))
        # Whole numbers below 2^53 are exact in double precision.
        sums = OPERATORS[node.op](graph, node, operands)
        made = self._grids.get(node.output)
        factors = scale if made is None else scale / np.float32(made.scale)
        convolves = node.op.startswith("Conv")
        channel = graph.channel_axis(sums.ndim) if convolves else sums.ndim - 1
        shape = [-1 if i == channel else 1 for i in range(sums.ndim)]
        return sums.astype(np.float32) * factors.reshape(shape)


def _fixed_sum(codes: list[tuple[np.ndarray, Grid]], made: Grid) -> np.ndarray:
    """Codes of a sum as XNNPACK computes them: the larger of the factors has 21 binary digits, and
    what is in the middle of two steps goes up."""
    factors = [np.float32(grid.scale) / np.float32(made.scale) for _, grid in codes]
    digits = SUM_DIGITS - int(np.frexp(max(factors))[1])
    total = np.int64(1) << (digits - 1)
    for (values, grid), factor in zip(codes, factors, strict=True):
        multiplier = np.int64(np.rint(np.ldexp(factor, digits)))
        total = total + (values.astype(np.int64) - grid.zero_point) * multiplier
    return np.clip((total >> digits) + made.zero_point, made.low, made.high).astype(np.float64)


def _codes(steps: np.ndarray, grid: Grid) -> np.ndarray:
    """Of values given in steps of the grid."""
    return np.clip(np.rint(steps) + grid.zero_point, grid.low, grid.high)


def _numbers(codes: np.ndarray, grid: Grid) -> np.ndarray:
    return (codes - grid.zero_point) * grid.scale

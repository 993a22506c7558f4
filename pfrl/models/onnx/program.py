"""The nodes of an ONNX file as a function of its arrays, for inputs of any number of examples."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from onnx.reference import ReferenceEvaluator

from pfrl.models.onnx.laid import Laid, Value, laid, plain
from pfrl.models.onnx.operators import (  # noqa: F401  (they register their operators)
    contract,
    normalize,
    pick,
    pointwise,
    pool,
    resize,
    shape,
)
from pfrl.models.onnx.operators.base import (
    BATCH,
    OPERATORS,
    MustBeKnown,
    Run,
    counts,
    narrow,
    unsupported,
)
from pfrl.models.onnx.reader import Node, OnnxError, OnnxFile
from pfrl.models.onnx.variances import by_differences, with_variances

SIZES_ONLY = {
    "Reshape": {1},
    "Expand": {1},
    "Tile": {1},
    "Slice": {1, 2, 3, 4},
    "Pad": {1, 2, 3},
    "Resize": {1, 2, 3},
    "Upsample": {1},
    "Clip": {1, 2},
    "TopK": {1},
    "OneHot": {1, 2},
    "Range": {0, 1, 2},
    "ConstantOfShape": {0},
    "Dropout": {1, 2},
}
"""Operands that say how much or where, and are no weights, by operator."""
KERNELS = {"Conv": {1, 2}, "ConvTranspose": {1, 2}, "Gemm": {1, 2}, "MatMul": {0, 1}}
KERNELS |= {"BatchNormalization": {1, 2, 3, 4}, "LayerNormalization": {1, 2}}
"""Operands that are weights even where they are written as constants."""


class OnnxProgram:
    """A file's nodes, and what is known of them for inputs of a shape.

    Attributes:
      file: what was read.
      nodes: those that the outputs need.
      weights: arrays that are computed with: parameters and statistics, by the file's names.
      roles, layouts: see ``Run``; of a pass over inputs of ``shapes``.
      fixed: examples that the file is written for; None if their number is free.

    With ``differences`` variances are computed as ``pfrl.models.onnx.variances`` says.
    """

    def __init__(self, file: OnnxFile, shapes: Sequence[Sequence[int]], differences: bool = False):
        self.file = file
        self.nodes = _needed(file, by_differences(file) if differences else with_variances(file))
        _check_known(file, self.nodes)
        first = file.inputs[0].shape[0] if file.inputs[0].shape else None
        self.fixed = first
        self.weights = {
            name: array for name, array in file.arrays.items() if _is_weight(file, self.nodes, name)
        }
        self._plans: dict[Any, tuple[dict[str, np.ndarray], dict[str, list[int]]]] = {}
        self.roles: dict[str, tuple[str, Node]] = {}
        self.layouts: dict[str, tuple[int, ...]] = {}
        run = self._planned(tuple(map(tuple, shapes)))
        self.roles, self.layouts = run.roles, run.layouts
        used = {name for node in self.nodes for name in node.inputs}
        self.weights = {name: a for name, a in self.weights.items() if name in used}

    def layout(self, name: str) -> tuple[int, ...]:
        """How a weight is best stored: the axis of the file behind each of its own."""
        return self.layouts.get(name, tuple(range(self.weights[name].ndim)))

    def __call__(
        self, weights: Mapping[str, Any], inputs: Sequence[Laid], train: bool, watch: bool = False
    ) -> tuple[list[Value], dict[str, Any]]:
        """The outputs, and the statistics that a pass in training updates.

        Args:
          weights: by the file's names, each stored in its ``layout``.
          inputs: as stored.
          train: whether normalisations use the batch.
          watch: whether they do not, and the batch's statistics are what comes back.
        """
        key = tuple(each.shape[1:] for each in inputs)
        if key not in self._plans:
            self._planned(key)
        known, targets = self._plans[key]
        run = Run(self.file.opset, train, inputs[0].shape[0], self.fixed, targets=targets)
        run.watch = watch
        stored = {n: Laid(jnp.asarray(w), self.layout(n), n) for n, w in weights.items()}
        outputs = self._pass(run, stored, inputs, dict(known))
        return outputs, run.statistics

    def _planned(self, key: tuple[tuple[int, ...], ...]) -> Run:
        """A pass without numbers, which notes everything that does not depend on them."""
        while True:
            run, known = Run(self.file.opset, False, BATCH, self.fixed), {}
            specs = [
                jax.ShapeDtypeStruct((BATCH, *sizes), narrow(each.dtype))
                for each, sizes in zip(self.file.inputs, key, strict=True)
            ]

            def abstract(weights, inputs, run=run, known=known):
                stored = {name: Laid(w, self.layout(name), name) for name, w in weights.items()}
                outputs = self._pass(run, stored, list(map(laid, inputs)), known)
                return [plain(value) for value in outputs]

            arrays = {name: np.transpose(w, self.layout(name)) for name, w in self.weights.items()}
            try:
                jax.eval_shape(abstract, arrays, specs)
            except MustBeKnown as error:
                del self.weights[error.origin]
                continue
            self._plans[key] = known, run.targets
            return run

    def _pass(
        self,
        run: Run,
        weights: Mapping[str, Laid],
        inputs: Sequence[Laid],
        known: dict[str, np.ndarray],
    ) -> list[Value]:
        """Compute node by node; ``known`` is filled with what depends on sizes alone."""
        values: dict[str, Value] = {}
        for name, array in self.file.arrays.items():
            values[name] = weights.get(name, array)
        for each, x in zip(self.file.inputs, inputs, strict=True):
            values[each.name] = x
        for node in self.nodes:
            missing = [name for name in node.inputs if name and name not in values]
            if missing:
                raise OnnxError(
                    f"{self.file.path} is damaged: nothing makes '{missing[0]}', which the node"
                    f" '{node.name}' reads; export it again"
                )
            if all(name in known for name in node.outputs if name):
                values.update({name: known[name] for name in node.outputs if name})
                continue
            operands = [values[name] if name else None for name in node.inputs]
            results = _computed(run, node, operands)
            for name, result in zip(node.outputs, results, strict=False):
                if name and result is not None:
                    values[name] = result
                    if isinstance(result, np.ndarray):
                        known[name] = result
        return [_for_examples(run, values[name]) for name in self.file.outputs]


def _for_examples(run: Run, value: Value) -> Value:
    """A result that is known, for the examples of this pass."""
    if isinstance(value, Laid) or value.dtype.kind not in "iu" or run.examples == BATCH:
        return value
    flat = [run.size(int(each)) for each in value.ravel()]
    return np.array(flat, value.dtype).reshape(value.shape)


def _computed(run: Run, node: Node, operands: list[Value | None]) -> list[Any]:
    """What a node yields."""
    given = [value for value in operands if value is not None]
    known = node.op != "Shape" and not any(isinstance(value, Laid) for value in given)
    if known and not _for_each_example(node, given):
        return _evaluated(run, node, operands)
    computed = [value for value in given if isinstance(value, Laid)]
    variables = [value.origin for value in computed if value.origin is not None]
    if node.op in KNOWN_ONLY and len(variables) == len(computed):
        # What is made of weights alone in a way that no layer is: masks, tables of places.
        raise MustBeKnown(variables[0])
    if node.op not in OPERATORS:
        raise unsupported(node, "depends on the images")
    while operands and operands[-1] is None:
        operands.pop()
    operands = [_same_for_all(run, value) for value in operands]
    lowered: Callable[..., Any] = OPERATORS[node.op]
    operands = [
        laid(jnp.asarray(_single(value))) if place == 0 and node.op not in _ANY_FIRST
        and isinstance(value, np.ndarray) else value
        for place, value in enumerate(operands)
    ]  # fmt: skip
    try:
        result = lowered(run, node, *operands)
    except (OnnxError, MustBeKnown):
        raise
    except (TypeError, ValueError, IndexError, KeyError, AssertionError) as error:
        shapes = ", ".join("none" if v is None else str(list(v.shape)) for v in operands)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise OnnxError(
            f"the operator '{node.op}' (node '{node.name}') does not run on {shapes}: {reason}"
        ) from error
    return list(result) if isinstance(result, list | tuple) and not isinstance(result, Laid) else [
        result
    ]  # fmt: skip


def _same_for_all(run: Run, value: Value | None) -> Value | None:
    """A known array with a row for every example, for those of this pass, if all are the same."""
    if not isinstance(value, np.ndarray):
        return value
    along = [axis for axis, size in enumerate(value.shape) if counts(size)]
    if len(along) != 1 or value.shape[along[0]] != BATCH:
        return value
    row = value.take([0], along[0])
    if (value != row).any():
        return value
    sizes = [run.examples if axis == along[0] else n for axis, n in enumerate(value.shape)]
    return laid(jnp.broadcast_to(_single(row), sizes))


def _for_each_example(node: Node, given: Sequence[Any]) -> bool:
    """Whether a node makes an array with as many rows as there are examples out of known values.

    Whole numbers are places or masks, and stay known.
    """
    if node.op not in ("ConstantOfShape", "Expand", "Tile"):
        return False
    whole = node.op != "ConstantOfShape" and given[0].dtype.kind != "f"
    return not whole and any(map(counts, given[-1].ravel()))


_ANY_FIRST = frozenset(
    "Add Sub Mul Div Pow Mod Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor Sum Max Min"
    " Mean Where Concat MatMul Gemm Einsum Shape Size ConstantOfShape".split()
)
"""Operators whose first operand may be a known array."""


def _evaluated(run: Run, node: Node, operands: list[Any]) -> list[np.ndarray]:
    """A node on known arrays, in numpy."""
    if node.op == "Unsqueeze" and "axes" in node.attributes:
        # As files up to opset 12 have it, which the evaluator does not run.
        return [np.expand_dims(operands[0], tuple(node.attributes["axes"]))]
    if node.op == "GatherElements":
        # The evaluator wants as many of every other axis.
        array, places = operands
        return [pick.gather_elements(np, array, places, node)]
    names = [name for name in node.inputs if name]
    evaluator = ReferenceEvaluator(node.proto, opsets={"": run.opset})
    given = [value for value in operands if value is not None]
    with np.errstate(all="ignore"):
        results = evaluator.run(None, dict(zip(names, given, strict=True)))
    return [np.asarray(each) for each in results]


def _single(array: np.ndarray) -> np.ndarray:
    """In the types that the network computes in."""
    return array.astype(narrow(array.dtype))


def _needed(file: OnnxFile, nodes: Sequence[Node]) -> tuple[Node, ...]:
    alive, kept = set(file.outputs), []
    for node in reversed(nodes):
        if alive.intersection(node.outputs):
            alive.update(node.inputs)
            kept.append(node)
    return tuple(kept[::-1])


def _check_known(file: OnnxFile, nodes: Sequence[Node]) -> None:
    """Refuse operators that nothing here computes.

    Raises:
      OnnxError: if there is one that is not on known arrays alone.
    """
    for node in nodes:
        if node.op not in OPERATORS and node.op not in KNOWN_ONLY:
            raise OnnxError(
                f"{file.path} has the operator '{node.op}' (node '{node.name}'), which is unknown"
                " here; export the network without it, or give the network as FILE.py:FUNCTION"
            )


KNOWN_ONLY = frozenset("Range EyeLike NonZero OneHot ScatterND ScatterElements".split())
"""Operators that no layer has: of known arrays and of weights alone they give known arrays."""


def _is_weight(file: OnnxFile, nodes: Sequence[Node], name: str) -> bool:
    """Whether an array is computed with, and is no number that stands in a formula."""
    array = file.arrays[name]
    if array.dtype.kind != "f":
        return False
    places = [
        (node.op, place) for node in nodes for place, each in enumerate(node.inputs) if each == name
    ]
    owned = any(place in KERNELS.get(op, ()) for op, place in places)
    if name in file.constants or array.size == 1:
        return owned
    return any(place not in SIZES_ONLY.get(op, ()) for op, place in places)

"""The table of operators, and what one of them is told besides its operands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pfrl.models.onnx.laid import Laid, Value
from pfrl.models.onnx.reader import Node, OnnxError

BATCH = 8191
"""The number of examples that known sizes are computed for: a prime, so that it is found again."""


def counts(size: int) -> bool:
    """Whether a known size grows with the number of examples."""
    return size > 0 and size % BATCH == 0


def narrow(dtype: np.dtype) -> np.dtype:
    """The type that a type of the file is computed in."""
    narrower = {"float64": np.float32, "int64": np.int32, "uint64": np.uint32}
    return np.dtype(narrower.get(np.dtype(dtype).name, dtype))


Operator = Callable[..., Any]
"""``operator(run, node, *inputs)`` to a value, or a list of as many as the node has outputs."""

OPERATORS: dict[str, Operator] = {}
"""By the name in the file; what works on known arrays alone needs none."""


def operator(*names: str) -> Callable[[Operator], Operator]:
    """Decorator: the function computes the operators of these names."""

    def add(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return add


class MustBeKnown(Exception):
    """A variable is used as a size or a bound: it is a constant of the network."""

    def __init__(self, origin: str):
        super().__init__(origin)
        self.origin = origin


@dataclass
class Run:
    """One pass through a file.

    Attributes:
      opset: version of the operator set.
      train: whether normalisations use the batch's statistics.
      examples: of this pass; ``BATCH`` while known values are computed.
      fixed: examples that the file is written for, if its sizes say so.
      statistics: what normalisations update, by variable.
      roles: what variables turned out to be: ``kernel``, ``bias``, ``scale``, ``mean``, ``var``.
      layouts: how variables are best stored.
      targets: shapes that are written for ``fixed`` examples, for ``BATCH`` of them, by the name
        of what is reshaped.
      watch: whether normalisations note the batch's statistics and do not use them.
    """

    opset: int
    train: bool
    examples: Any
    fixed: int | None
    statistics: dict[str, Any] = field(default_factory=dict)
    roles: dict[str, tuple[str, Node]] = field(default_factory=dict)
    layouts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    targets: dict[str, list[int]] = field(default_factory=dict)
    watch: bool = False

    def known(self, node: Node, value: Value, what: str) -> np.ndarray:
        """An operand that decides about sizes or places.

        Raises:
          OnnxError: if it depends on the network's input.
          MustBeKnown: if it is a variable.
        """
        if isinstance(value, np.ndarray):
            return value
        if value.origin is not None:
            raise MustBeKnown(value.origin)
        raise OnnxError(
            f"the operator '{node.op}' (node '{node.name}') has {what} that depends on the images;"
            " export the network for images of one size"
        )

    def sizes(self, node: Node, value: Value) -> list[Any]:
        """A known shape, for the examples of this pass."""
        return [self.size(int(each)) for each in self.known(node, value, "a shape").ravel()]

    def size(self, number: int) -> Any:
        """A known size, for the examples of this pass."""
        return number // BATCH * self.examples if counts(number) else number

    def claim(
        self, node: Node, value: Value | None, role: str, layout: Sequence[int] | None = None
    ) -> None:
        """Note what a variable is, and the layout in which the operation wants it."""
        if not isinstance(value, Laid) or value.origin is None:
            return
        self.roles.setdefault(value.origin, (role, node))
        if layout is not None:
            self.store(value, layout)

    def store(self, value: Value, layout: Sequence[int]) -> None:
        """Note in which layout an operation wants a variable."""
        if isinstance(value, Laid) and value.origin is not None:
            order = [value.layout.index(axis) for axis in layout]
            self.layouts.setdefault(value.origin, tuple(order))


def unsupported(node: Node, reason: str) -> OnnxError:
    return OnnxError(
        f"the operator '{node.op}' (node '{node.name}') {reason}; export the network without it, or"
        " give it as FILE.py:FUNCTION"
    )

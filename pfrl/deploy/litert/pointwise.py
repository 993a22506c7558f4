"""LiteRT's operators for element-wise operations and reductions."""

import math

import numpy as np

from pfrl.deploy.litert.emit import Emitter, emits
from pfrl.deploy.litert.patterns import bounds
from pfrl.deploy.operators.graph import Node

_SINGLE = {
    "Exp": ("EXP", "ExpOptions"),
    "Log": ("LOG", None),
    "Tanh": ("TANH", None),
    "Sigmoid": ("LOGISTIC", None),
    "Sqrt": ("SQRT", None),
    "Abs": ("ABS", "AbsOptions"),
    "Sign": ("SIGN", "SignOptions"),
    "Floor": ("FLOOR", None),
    "Ceil": ("CEIL", None),
    "Round": ("ROUND", None),
    "Sin": ("SIN", None),
    "Cos": ("COS", "CosOptions"),
    "Gelu": ("GELU", "GeluOptions"),
    "HardSwish": ("HARD_SWISH", "HardSwishOptions"),
}
_ARITHMETIC = {"Add": "AddOptions", "Sub": "SubOptions", "Mul": "MulOptions", "Div": "DivOptions"}
_PAIRS = {
    "Pow": ("POW", "PowOptions"),
    "Max": ("MAXIMUM", "MaximumMinimumOptions"),
    "Min": ("MINIMUM", "MaximumMinimumOptions"),
}
_LOGICAL = {
    "Greater": ("GREATER", "GreaterOptions"),
    "GreaterOrEqual": ("GREATER_EQUAL", "GreaterEqualOptions"),
    "Less": ("LESS", "LessOptions"),
    "LessOrEqual": ("LESS_EQUAL", "LessEqualOptions"),
    "Equal": ("EQUAL", "EqualOptions"),
    "And": ("LOGICAL_AND", "LogicalAndOptions"),
    "Or": ("LOGICAL_OR", "LogicalOrOptions"),
    "Xor": ("NOT_EQUAL", "NotEqualOptions"),
    "Not": ("LOGICAL_NOT", "LogicalNotOptions"),
}
_REDUCTIONS = {
    "ReduceSum": "SUM",
    "ReduceMean": "MEAN",
    "ReduceMax": "REDUCE_MAX",
    "ReduceMin": "REDUCE_MIN",
    "ReduceProd": "REDUCE_PROD",
}


@emits(*_SINGLE)
def _single(emitter: Emitter, node: Node) -> None:
    op, options = _SINGLE[node.op]
    emitter.operator(op, [emitter.activation(node.inputs[0])], node, options)


@emits(*_ARITHMETIC)
def _arithmetic(emitter: Emitter, node: Node) -> None:
    inputs = [emitter.activation(name) for name in node.inputs]
    emitter.operator(node.op.upper(), inputs, node, _ARITHMETIC[node.op], activates=True)


@emits(*_PAIRS)
def _pair(emitter: Emitter, node: Node) -> None:
    op, options = _PAIRS[node.op]
    emitter.operator(op, [emitter.activation(name) for name in node.inputs], node, options)


@emits(*_LOGICAL)
def _logical(emitter: Emitter, node: Node) -> None:
    op, options = _LOGICAL[node.op]
    inputs = [emitter.activation(name) for name in node.inputs]
    emitter.model.operator(op, inputs, [emitter.result(node, "bool")], options)


@emits("Reciprocal")
def _reciprocal(emitter: Emitter, node: Node) -> None:
    inputs = [emitter.constant("one", np.array(1.0)), emitter.activation(node.inputs[0])]
    emitter.operator("DIV", inputs, node, "DivOptions")


@emits("Relu", "Clip")
def _clip(emitter: Emitter, node: Node) -> None:
    """RELU or RELU6 where it is one, else MAXIMUM, MINIMUM or both."""
    low, high = bounds(node) or (-math.inf, math.inf)
    number = emitter.moved(node.inputs[0], node)
    if emitter.integer:
        return emitter.clamp(number, node, low, high)
    if low == 0.0 and high in (6.0, math.inf):
        return emitter.operator("RELU6" if high == 6.0 else "RELU", [number], node)
    steps = [("MAXIMUM", low), ("MINIMUM", high)]
    steps = [(op, bound) for op, bound in steps if math.isfinite(bound)]
    for place, (op, bound) in enumerate(steps, 1):
        last = place == len(steps)
        result = emitter.result(node) if last else emitter.temporary(emitter.shape(node.output))
        inputs = [number, emitter.constant("bound", np.array(bound))]
        emitter.model.operator(op, inputs, [result], "MaximumMinimumOptions")
        number = result


@emits("Where")
def _where(emitter: Emitter, node: Node) -> None:
    inputs = [emitter.activation(name) for name in node.inputs]
    emitter.operator("SELECT_V2", inputs, node, "SelectV2Options")


@emits("Cast")
def _cast(emitter: Emitter, node: Node) -> None:
    result = emitter.result(node, str(np.dtype(node.attributes["to"])))
    emitter.model.operator("CAST", [emitter.activation(node.inputs[0])], [result], "CastOptions")


@emits("Softmax")
def _softmax(emitter: Emitter, node: Node) -> None:
    emitter.operator(
        "SOFTMAX", [emitter.activation(node.inputs[0])], node, "SoftmaxOptions", beta=1.0
    )


@emits(*_REDUCTIONS)
def _reduce(emitter: Emitter, node: Node) -> None:
    read = (
        emitter.activation(node.inputs[0])
        if node.op != "ReduceMax"
        else emitter.moved(node.inputs[0], node)
    )
    inputs = [read, emitter.axes(node.attributes["axes"])]
    keep = bool(node.attributes["keepdims"])
    emitter.operator(_REDUCTIONS[node.op], inputs, node, "ReducerOptions", keepDims=keep)


@emits("GlobalAveragePool")
def _global_pool(emitter: Emitter, node: Node) -> None:
    rank = len(emitter.shape(node.output))
    inputs = [emitter.activation(node.inputs[0]), emitter.axes(range(1, rank - 1))]
    emitter.operator("MEAN", inputs, node, "ReducerOptions", keepDims=True)

"""A jaxpr as a flat list of equations: calls inlined, custom derivatives kept as programs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
from jax.extend import core as jex

# Calls that are nothing but their body.
INLINED = {
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
CUSTOM_JVP = "custom_jvp_call"
FUSED = "fused"
"""Name of an equation that another one has taken the place of; it is not run."""


BATCH = 8191
"""The batch size that stands for any: a prime that no other dimension is a multiple of.

A dimension depends on the batch size if and only if it is a multiple of
``BATCH``. Unlike a symbolic dimension this asks nothing of the function.
"""


def depends_on_batch(dimension: int) -> bool:
    return dimension > 0 and dimension % BATCH == 0


class Constant(NamedTuple):
    """An operand that is no variable: a literal or a captured array."""

    value: Any


Operand = int | Constant
"""A value's number within its program, or a constant."""


@dataclass
class Equation:
    """One primitive applied: operands, the numbers of its results, and what it may nest.

    Attributes:
      name: the primitive's name.
      primitive, params: as in the jaxpr.
      inputs, outputs: operands and numbers of the results.
      shapes: shapes of the inputs and of the outputs as traced.
      tangent: for a function with a custom derivative, the program that maps
        primals and tangents to primals and tangents; ``body`` is the function.
    """

    name: str
    primitive: Any
    params: dict[str, Any]
    inputs: list[Operand]
    outputs: list[int]
    shapes: tuple[list[tuple], list[tuple]]
    body: "Program | None" = None
    tangent: "Program | None" = None

    def bind(self, operands: Sequence[Any]) -> list[Any]:
        """The primitive applied to other operands, arrays or traced values."""
        params = self.primitive.get_bind_params(self.params)
        results = self.primitive.bind(*operands, **params)
        return list(results) if self.primitive.multiple_results else [results]


@dataclass
class Program:
    """Equations in order, over values numbered from 0; the first ones are the inputs."""

    inputs: int
    equations: list[Equation] = field(default_factory=list)
    outputs: list[Operand] = field(default_factory=list)
    shapes: list[tuple] = field(default_factory=list)
    types: list[Any] = field(default_factory=list)
    """Shape and type of every value, by number."""
    _makers: dict[int, Equation] = field(default_factory=dict, repr=False)

    def made_by(self, value: int) -> Equation | None:
        """The equation that a value is a result of; None for an input."""
        if not self._makers:
            self._makers.update({v: e for e in self.equations for v in e.outputs})
        return self._makers.get(value)


def trace_program(
    function: Callable, *arguments: Any, derivatives: bool = True
) -> tuple[Program, Any]:
    """The program of ``function(*arguments)`` over its flattened arguments.

    Args:
      function: of arrays.
      arguments: arrays or ``jax.ShapeDtypeStruct``, or trees of them.
      derivatives: whether functions keep a derivative of their own; else they are inlined.

    Returns:
      the program, and the tree of the function's results.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
    program = from_jaxpr(closed.jaxpr, closed.consts, {} if derivatives else None)
    return program, jax.tree.structure(shape)


Step = Callable[[int, Equation, list[Any]], Sequence[Any]]
"""``(number of the equation, equation, operands) -> results``."""


def evaluate(program: Program, arguments: Sequence[Any], step: Step) -> list[Any]:
    """Walk through a program; its outputs for ``arguments``, one an input.

    Operands and results are what ``step`` makes of them; constants are handed over as they are.
    """
    values: list[Any] = list(arguments)

    def read(operand: Operand) -> Any:
        return operand.value if isinstance(operand, Constant) else values[operand]

    for number, equation in enumerate(program.equations):
        values.extend(step(number, equation, [read(operand) for operand in equation.inputs]))
    return [read(output) for output in program.outputs]


Derivatives = dict[int, tuple[Any, "Program", "Program"]]
"""Functions with their own derivative that were met before: ``(jaxpr equation, body, tangent)``.

A jitted function that is called again with the same shapes is the same equation
object, and tracing derivatives is what a deep network would spend its time on.
"""


def from_jaxpr(jaxpr: Any, consts: Sequence[Any], known: Derivatives | None) -> Program:
    """The flat program of a jaxpr with the values of its captured constants.

    With None for ``known`` functions with a custom derivative are inlined too: so it
    is within the derivatives themselves, which often call their own function.
    """
    program = Program(len(jaxpr.invars))
    operands: dict[Any, Operand] = {}
    for var in jaxpr.invars:
        operands[var] = _new_value(program, var.aval)
    for var, value in zip(jaxpr.constvars, consts, strict=True):
        operands[var] = Constant(value)
    program.outputs = _inline(program, jaxpr, operands, known)
    return program


def _new_value(program: Program, aval: Any) -> int:
    program.shapes.append(tuple(getattr(aval, "shape", ())))
    program.types.append(getattr(aval, "dtype", None))
    return len(program.shapes) - 1


def _inline(
    program: Program, jaxpr: Any, operands: dict[Any, Operand], known: Derivatives | None
) -> list[Operand]:
    """Append a jaxpr's equations; ``operands`` maps its variables, and is filled."""

    def operand(atom: Any) -> Operand:
        return Constant(atom.val) if isinstance(atom, jex.Literal) else operands[atom]

    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        inputs = [operand(atom) for atom in eqn.invars]
        body = _body(eqn, known is not None)
        if body is not None:
            inner, consts = body
            scope = dict(zip(inner.invars, inputs, strict=True))
            scope |= {v: Constant(c) for v, c in zip(inner.constvars, consts, strict=True)}
            for var, result in zip(eqn.outvars, _inline(program, inner, scope, known), strict=True):
                operands[var] = result
            continue
        outputs = []
        for var in eqn.outvars:
            operands[var] = number = _new_value(program, var.aval)
            outputs.append(number)
        shapes = ([tuple(getattr(a.aval, "shape", ())) for a in eqn.invars],
                  [tuple(getattr(v.aval, "shape", ())) for v in eqn.outvars])  # fmt: skip
        equation = Equation(name, eqn.primitive, eqn.params, inputs, outputs, shapes)
        if name == CUSTOM_JVP:
            assert known is not None
            if id(eqn) not in known:
                body = from_jaxpr(*_open(eqn.params["call_jaxpr"]), known)
                known[id(eqn)] = eqn, body, _tangent_program(eqn)
            _, equation.body, equation.tangent = known[id(eqn)]
        program.equations.append(equation)
    return [operand(atom) for atom in jaxpr.outvars]


def _body(eqn: Any, rules: bool) -> tuple[Any, Sequence[Any]] | None:
    """The jaxpr that a call stands for, or None if the equation stays as it is.

    A custom_vjp call is its body, which differentiates to the same values; so
    is a custom_jvp call that captures values, whose rule could not see them.
    """
    name = eqn.primitive.name
    if name == CUSTOM_JVP and (eqn.params["num_consts"] or not rules):
        return _open(eqn.params["call_jaxpr"])
    return _open(eqn.params[INLINED[name]]) if name in INLINED else None


def _open(jaxpr: Any) -> tuple[Any, Sequence[Any]]:
    """``(jaxpr, constants)`` of a jaxpr, closed or not."""
    return (jaxpr.jaxpr, jaxpr.consts) if hasattr(jaxpr, "jaxpr") else (jaxpr, ())


def _tangent_program(eqn: Any) -> Program:
    """Primals and tangents (all of them given) to primals and tangents of a custom_jvp call.

    A tangent that the rule leaves out is zero: ``Constant(None)``.
    """
    rule, consts, zeros = eqn.params["jvp_jaxpr_fun"].call_wrapped(*[False] * len(eqn.invars))
    inner = from_jaxpr(rule, consts, None)
    given = iter(inner.outputs[len(zeros) :])
    tangents = [Constant(None) if zero else next(given) for zero in zeros]
    inner.outputs = [*inner.outputs[: len(zeros)], *tangents]
    return inner

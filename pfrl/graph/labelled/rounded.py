"""Sites: the tensors between fused operations, where a quantized network rounds.

One walk over a network's program finds them, the same in evaluation and in training: what
rounds a network in JAX and what writes an integer file both read this list.

An operation *sums up* (a layer, the sum or product of two activations, a mean), what follows it
belongs to it (a normalisation, an activation that clips), and then the result is rounded, once:
a convolution, its normalisation and its ReLU have one site behind them. What moves values about
or picks the largest of them (reshape, slice, max pool) keeps the grid of what it reads, and
concatenations have one grid for all their parts.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pfrl.graph.labelled.program import (
    FUSED,
    Constant,
    Equation,
    Operand,
    Program,
    depends_on_batch,
)
from pfrl.graph.labelled.shuffle import NAME as SHUFFLE


class RoundedValue(NamedTuple):
    """A value of a program that is rounded: a site.

    Attributes:
      value: its number in the program.
      readers: layers that read it, or what has its grid and is made of it.
      grid: the first site of those that share a grid, by its place in the list.
      maker: the layer whose result it is; None for the input and for what no layer makes.
      parts: places of the sites that it is the sum, product or mean of.
      shape: without the batch axis.
    """

    value: int
    readers: tuple[str, ...]
    grid: int
    maker: str | None
    parts: tuple[int, ...]
    shape: tuple[int, ...]


MOVES = frozenset(
    "reshape squeeze expand_dims transpose broadcast_in_dim slice rev gather dynamic_slice split"
    " copy name stop_gradient optimization_barrier convert_element_type reduce_precision"
    f" concatenate stack {SHUFFLE}".split()
)
"""Primitives whose results consist of what they read."""
PICKS = frozenset({"reduce_window_max", "reduce_max"})
CLIPS = frozenset({"max", "min", "clamp"})
LINEAR = frozenset({"add", "sub", "mul", "div", "neg", "add_any"})
CONTRACTIONS = frozenset({"conv_general_dilated", "dot_general"})


class _State(NamedTuple):
    """What is known of a value that differs from example to example.

    Attributes:
      kind: 'float' (nobody knows its grid), 'rounded' (on the grid of ``site``), or what sums it
        up and goes on: a 'layer' or a 'mean', to which factors belong, an 'average', which keeps
        the grid of its part, and any other 'sum'.
      site: of a rounded value.
      maker, parts: see ``RoundedValue``; of a value that is not rounded yet.
    """

    kind: str
    site: int = -1
    maker: str | None = None
    parts: tuple[int, ...] = ()


_FLOAT = _State("float")


def find_rounded(
    program: Program, inputs: Sequence[int], layers: Mapping[int, tuple[str, int]]
) -> list[RoundedValue]:
    """The sites of a network, in an order that does not depend on its mode.

    Args:
      program: traced with ``BATCH`` examples.
      inputs: numbers of the values that are the network's inputs.
      layers: by equation number the name of a layer and the place of its kernel.
    """
    return _Walk(program, inputs, layers).sites()


class _Walk:
    def __init__(
        self, program: Program, inputs: Sequence[int], layers: Mapping[int, tuple[str, int]]
    ):
        self.program, self.layers = program, layers
        self.alive = _example_wise(program, inputs)
        self.uses, self.beside = _uses(program, self.alive)
        self.states: dict[int, _State] = {}
        self.found: list[RoundedValue] = []
        self.grids: list[int] = []
        for value in inputs:
            self.states[value] = _FLOAT
            if np.issubdtype(program.types[value], np.floating):
                self.rounded(value)
        for number, equation in enumerate(program.equations):
            if any(output in self.alive for output in equation.outputs):
                self.step(number, equation)
        self.finish()

    def sites(self) -> list[RoundedValue]:
        return [site._replace(grid=self.root(i)) for i, site in enumerate(self.found)]

    def finish(self) -> None:
        """An image is rounded even where it is the network's result; classes are not."""
        for output in self.program.outputs:
            if isinstance(output, int) and output in self.states:
                state = self.states[output]
                if state.kind != "float" and len(self.program.shapes[output]) > 2:
                    self.rounded(output)

    def rounded(self, value: int) -> int:
        """The site of a value, which becomes one if it was none."""
        state = self.states[value]
        if state.kind == "rounded":
            return state.site
        place = len(self.found)
        shape = self.program.shapes[value][1:]
        self.found.append(RoundedValue(value, (), place, state.maker, state.parts, shape))
        self.grids.append(place)
        if state.kind == "average":
            self.unite(place, state.parts[0])
        self.states[value] = _State("rounded", place)
        return place

    def root(self, place: int) -> int:
        while self.grids[place] != place:
            place = self.grids[place]
        return place

    def unite(self, a: int, b: int) -> None:
        a, b = self.root(a), self.root(b)
        self.grids[max(a, b)] = min(a, b)

    def reads(self, place: int, layer: str) -> None:
        site = self.found[place]
        if layer not in site.readers:
            self.found[place] = site._replace(readers=(*site.readers, layer))

    def step(self, number: int, equation: Equation) -> None:
        """What becomes of an equation's results."""
        if equation.name == FUSED:
            return
        if number in self.layers:
            layer, kernel = self.layers[number]
            activation = equation.inputs[1 - kernel]
            assert isinstance(activation, int)
            if activation in self.states:
                self.reads(self.rounded(activation), layer)
            self.states[equation.outputs[0]] = _State("layer", maker=layer)
            return
        operands = [x for x in equation.inputs if isinstance(x, int) and x in self.states]
        results = [x for x in equation.outputs if x in self.alive]
        state = self.result(equation, operands)
        if state is None:
            for operand in operands:
                if self.states[operand].kind != "float":
                    self.rounded(operand)
            state = _FLOAT
        for result in results:
            self.states[result] = state

    def result(self, equation: Equation, operands: list[int]) -> _State | None:
        """The state of the results; None if the operation is one of floats."""
        states = [self.states[x] for x in operands]
        if not states or any(state.kind == "float" for state in states):
            return None
        if len(set(operands)) > 1:
            return self.joined(equation, operands)
        value, state, name = operands[0], states[0], equation.name
        others = [x for x in equation.inputs if x != value]
        goes_on = state.kind != "rounded" and self.uses[value] == 1
        if equation.body is not None:
            kind = _kind(equation.body, [i for i, x in enumerate(equation.inputs) if x == value])
            if kind == "clip":
                return self.clipped(value, goes_on)
            return state if kind == "linear" and goes_on and state.kind == "layer" else None
        if len(operands) > 1:
            return None  # a value times itself
        if any(map(self.is_noise, others)):
            return self.kept(value, False)
        if name in CLIPS:
            return self.clipped(value, goes_on)
        if name in MOVES and not (name == "concatenate" and others):
            return self.kept(value, goes_on)
        if name == "pad":
            # Zero is on every grid, so rounding may come first, and padding belong to a layer.
            return self.kept(value, False) if _is_zero(self.program, equation.inputs[1]) else None
        if name in LINEAR and not (name == "div" and equation.inputs[0] != value):
            return self.scaled(equation, value, others, goes_on)
        if name in PICKS:
            return self.kept(value, False)
        if name == "reduce_window_sum":
            return _State("average", parts=(self.rounded(value),))
        if name == "reduce_sum" and _is_mean(equation):
            return _State("mean", parts=(self.rounded(value),))
        return None

    def kept(self, value: int, goes_on: bool) -> _State:
        """Of what consists of a value: as that goes on, or on the value's grid."""
        return self.states[value] if goes_on else _State("rounded", self.rounded(value))

    def clipped(self, value: int, goes_on: bool) -> _State:
        """The same of a clip, behind which no factor belongs to a layer any more."""
        state = self.kept(value, goes_on)
        return state._replace(kind="sum") if state.kind in ("layer", "mean") else state

    def scaled(
        self, equation: Equation, value: int, others: list[Operand], goes_on: bool
    ) -> _State | None:
        """Of a value that is scaled or shifted: part of a layer, or another step of the grid."""
        state = self.states[value]
        scalar = all(_size(self.program, x) == 1 for x in others)
        drops_out = scalar and any(map(self.is_noise, self.beside[equation.outputs[0]]))
        belongs = state.kind == "layer" or (scalar and state.kind in ("mean", "average"))
        if goes_on and belongs and not drops_out:
            return state
        return self.kept(value, False) if scalar and equation.name in ("mul", "div") else None

    def joined(self, equation: Equation, operands: list[int]) -> _State | None:
        """Of several activations."""
        if equation.name in ("add", "add_any", "mul"):
            parts = tuple(self.rounded(x) for x in operands)
            return _State("sum", parts=parts)
        if equation.name in ("concatenate", "stack") and len(operands) == len(equation.inputs):
            places = [self.rounded(x) for x in operands]
            for place in places[1:]:
                self.unite(places[0], place)
            return _State("rounded", places[0])
        return None

    def is_noise(self, other: Operand) -> bool:
        """Whether an operand is drawn anew for every example."""
        if isinstance(other, Constant) or other in self.states:
            return False
        return any(map(depends_on_batch, self.program.shapes[_source(self.program, other)]))


def _is_mean(equation: Equation) -> bool:
    """Whether all but the batch and one more axis of an image are summed over."""
    rank = len(equation.shapes[0][0])
    return rank >= 4 and len(equation.params["axes"]) == rank - 2


def _kind(body: Program, inputs: Sequence[int]) -> str | None:
    """What a function makes of one of its inputs, example by example: a clip, or a linear one.

    None for any other. Functions with a derivative of their own are looked into: ReLU is one,
    and so may be a normalisation.
    """
    inside, clips = set(inputs), True
    alive = _example_wise(body, inputs)
    for equation in body.equations:
        read = [x for x in equation.inputs if isinstance(x, int) and x in inside]
        if not read or not any(output in alive for output in equation.outputs):
            continue
        if len(read) > 1 or equation.name not in CLIPS | LINEAR | MOVES:
            return None
        if equation.name == "div" and equation.inputs[0] != read[0]:
            return None
        clips = clips and equation.name not in LINEAR
        inside.update(equation.outputs)
    return "clip" if clips else "linear"


def _source(program: Program, value: int) -> int:
    """What a value was made of by repeating and reshaping alone."""
    made = program.made_by(value)
    while made is not None and made.name in ("broadcast_in_dim", "reshape", "expand_dims"):
        before = made.inputs[0]
        if isinstance(before, Constant):
            break
        value, made = before, program.made_by(before)
    return value


def _size(program: Program, operand: Operand) -> int:
    """Elements of an operand that are not the same by construction."""
    if isinstance(operand, Constant):
        return int(np.size(operand.value))
    source = _source(program, operand)
    made = program.made_by(source)
    if made is not None and made.name in ("broadcast_in_dim", "convert_element_type"):
        return _size(program, made.inputs[0])
    return int(np.prod(program.shapes[source], dtype=float))


def _is_zero(program: Program, operand: Operand) -> bool:
    """Whether an operand is zeros; ``jnp.pad`` converts its own."""
    made = None if isinstance(operand, Constant) else program.made_by(_source(program, operand))
    if made is not None and made.name in ("broadcast_in_dim", "convert_element_type"):
        return _is_zero(program, made.inputs[0])
    return isinstance(operand, Constant) and not np.any(np.asarray(operand.value))


def _example_wise(program: Program, inputs: Sequence[int]) -> set[int]:
    """Values that depend on the inputs, example by example, and that an output is made of so."""
    found = set(inputs)
    for equation in program.equations:
        if any(isinstance(x, int) and x in found for x in equation.inputs):
            shapes = zip(equation.outputs, equation.shapes[1], strict=True)
            found |= {x for x, shape in shapes if any(map(depends_on_batch, shape))}
    alive = {x for x in program.outputs if isinstance(x, int)} & found
    for equation in reversed(program.equations):
        if any(x in alive for x in equation.outputs):
            alive |= {x for x in equation.inputs if isinstance(x, int)} & found
    return alive | set(inputs)


def _uses(program: Program, alive: set[int]) -> tuple[Counter[int], dict[int, list[Operand]]]:
    """How often a value is read by what an output is made of, and what is read together with it."""
    uses = Counter(x for x in program.outputs if isinstance(x, int))
    beside: dict[int, list[Operand]] = defaultdict(list)
    for equation in program.equations:
        if any(output in alive for output in equation.outputs):
            read = [x for x in equation.inputs if isinstance(x, int)]
            uses.update(read)
            for x in read:
                beside[x] += [other for other in equation.inputs if other != x]
    return uses, beside

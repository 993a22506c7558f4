"""Budget metrics: how each cost of a policy is computed, what its numbers mean, and its words.

A metric of the user's own is registered likewise::

    pfrl.register("metric", "weights_kept", Metric(lambda costs, at: ...))
"""

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from pfrl.registry import Registry, register

if TYPE_CHECKING:
    from pfrl.cost.model import Assignment, CostModel


class Unit(NamedTuple):
    """Divide a cost by ``divisor`` and write ``symbol`` behind it, or ``word`` on an axis."""

    divisor: float
    symbol: str
    word: str


COUNTS = (
    Unit(1e12, "T", "trillions"),
    Unit(1e9, "G", "billions"),
    Unit(1e6, "M", "millions"),
    Unit(1e3, "k", "thousands"),
    Unit(1.0, "", ""),
)
SIZES = (
    Unit(1e6, "MB", "MB"),
    Unit(1e3, "kB", "kB"),
    Unit(1.0, "bytes", "bytes"),
)
TIMES = (Unit(1.0, "ms", "ms"),)
MANY = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


class Metric(NamedTuple):
    """A cost of a policy, on which there can be a budget. Only ``cost`` has to be given.

    Attributes:
      cost: ``(costs, assignment) -> float``, above zero for the base network.
      monotone: whether raising any knob never lowers it, so that budgets can be met by
        bisection; or ``(costs, knobs) -> bool``, if that depends on the recipe or on what is
        decided. Said of a metric that is not, a budget would be broken.
      title: what an axis or a table calls it, such as 'MACs per image'; by default its name.
      noun: what it counts ('MACs'), for a sentence; left out, 'a ``title`` of 2 ms' is written.
      suffixes: what may follow a number in a target, and by what it is multiplied.
      units: in which it is written, the largest first.
      needs: what of the cost model it can only be had with: its latency model, or the size of the
        LiteRT file.
    """

    cost: "Callable[[CostModel, Assignment], float]"
    monotone: "bool | Callable[[CostModel, Collection[str]], bool]" = False
    title: str = ""
    noun: str = ""
    suffixes: Mapping[str, float] = MANY
    units: tuple[Unit, ...] = COUNTS
    needs: Literal["", "latency", "litert"] = ""


METRICS: Registry[Metric] = Registry("metric", rooms=("pfrl.cost.metrics",))
"""The metrics by the names that targets have for them."""


def _macs(costs: "CostModel", at: "Assignment") -> float:
    """Multiply-accumulates of one example."""
    return costs.graph.macs_at(at.counts)


def _params(costs: "CostModel", at: "Assignment") -> float:
    """Trainable elements."""
    return costs.graph.params_at(at.counts)


def _bytes(costs: "CostModel", at: "Assignment") -> float:
    """The ONNX file that is handed over, if the model knows it; else all arrays, packed. Exact."""
    if costs.file is None:
        return _packed(costs, at)
    return costs.file(at.counts, at.weight_bits, at.act_bits)


def _bytes_rise(costs: "CostModel", knobs: Collection[str]) -> bool:
    """Fewer than 8 bits of an activation take an operation more in the file."""
    return _packed_rises(costs, knobs) if costs.file is None else "act_bits" not in knobs


def _litert(costs: "CostModel", at: "Assignment") -> float:
    """The LiteRT file. Exact.

    Not monotone: with a channel more its lists begin at other multiples of 16 bytes.
    """
    assert costs.litert is not None
    return costs.litert(at.counts, at.weight_bits, at.act_bits)


def _packed(costs: "CostModel", at: "Assignment") -> float:
    """All arrays as ``pfrl.deploy.packed.pack`` stores them (its file has a header besides).

    Quantized, sparse or in float; see ``Storage``. Exact.
    """
    stored = costs.storage.stored(at.counts, at.weight_bits, at.sparsity)
    return sum(array.payload for array in stored.values())


def _packed_rises(costs: "CostModel", knobs: Collection[str]) -> bool:
    """Without a code for zero, a bitmap of few zeros takes more bytes than the zeros save."""
    return "sparsity" not in knobs or costs.storage.zeros_coded


def _bops(costs: "CostModel", at: "Assignment") -> float:
    """MACs times weight bits times activation bits; zeros count as all others."""
    return sum(
        layer.macs_at(at.counts) * at.weight_bits[layer.name] * at.act_bits[layer.name]
        for layer in costs.graph.layers
    )


def _latency(costs: "CostModel", at: "Assignment") -> float:
    """Predicted milliseconds of one example on one thread, of the file that is handed over.

    Not monotone: runtimes have fast kernels at multiples of some channel counts.
    """
    assert costs.latency is not None
    if costs.integer_latency is not None and at.rounded:
        return costs.integer_latency(at.counts)
    return costs.latency(at.counts)


register("metric", "macs", Metric(_macs, True, "MACs per image", "MACs"))
register("metric", "params", Metric(_params, True, "parameters", "parameters"))
BYTES = {**MANY, "B": 1.0, "kB": 1e3, "MB": 1e6, "KiB": 1024.0, "MiB": 1024.0**2}
register("metric", "bytes", Metric(_bytes, _bytes_rise, "file size", suffixes=BYTES, units=SIZES))
register(
    "metric", "packed", Metric(_packed, _packed_rises, "packed size", suffixes=BYTES, units=SIZES)
)
register(
    "metric",
    "litert",
    Metric(_litert, title="LiteRT file size", suffixes=BYTES, units=SIZES, needs="litert"),
)
register("metric", "bops", Metric(_bops, True, "bit operations per image", "bit operations"))
register(
    "metric",
    "latency",
    Metric(
        _latency,
        title="predicted latency per image",
        suffixes={"": 1.0, "ms": 1.0},
        units=TIMES,
        needs="latency",
    ),
)

"""The protocols of quantizers: of kernels, of activations, and of where activations are clipped."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pfrl.registry import Registry, register

if TYPE_CHECKING:
    from pfrl.methods.base import Statistics
    from pfrl.methods.quantization.ranges import Observation

ROOM = ("pfrl.methods.quantization",)


class WeightQuantizer(NamedTuple):
    """How a kernel ``[..., O]`` is rounded. Only ``round`` has to be given.

    What a quantizer learns, or finds out before training, are its *own* arrays by name, such
    as ``{"step": ...}``. Their shapes do not depend on the bits. In the packed file a kernel
    is integers with a float32 step for every output channel, if the quantizer says the
    ``steps``, and else indices with a float32 table of the at most ``2^bits`` values that the
    rounded kernel has.

    Attributes:
      round: ``(kernel, own, bits, alive) -> kernel``; traced, the bits too (2 to 8, or 32 for
        none). ``alive`` is 0/1, what of the kernel is there, or None if all is.
      start: ``(kernel, bits, alive) -> own``, where training starts; not traced.
      trained: names of own arrays that gradients go to.
      cut: by name of an own array with channels, how it is sliced: 'outputs' is ``[O]``,
        'weights' of the kernel's shape.
      least_bits: the fewest that it can do with.
      steps: ``(kernel, own, bits) -> [O]``; None if values are not on a uniform grid.
      restored: ``(rounded kernel, table, bits) -> own`` of a packed file, by which the rounded
        kernel is rounded to itself; ``table`` has the steps, or the values. What it does not
        return is stored beside the kernel.
    """

    round: Callable[[Any, Mapping[str, Any], Any, Any], Any]
    start: Callable[[Any, int, Any], dict[str, Any]] = lambda kernel, bits, alive: {}
    trained: frozenset[str] = frozenset()
    cut: Mapping[str, str] = {}
    least_bits: int = 2
    steps: Callable[[Any, Mapping[str, Any], int], Any] | None = None
    restored: Callable[[Any, Any, int], dict[str, Any]] = lambda kernel, table, bits: {}


class ActivationGrid(NamedTuple):
    """The values ``scale · (i - zero_point)`` for the integers ``i`` from 0 to ``levels``."""

    scale: Any
    zero_point: Any
    levels: Any


class ActivationQuantizer(NamedTuple):
    """How what a site holds is rounded.

    Attributes:
      round: ``(x, own, bits, low, high, elements) -> x``; all traced. ``low`` and ``high`` are
        the calibrated range, ``elements`` how many of an example's values are there.
      grid: ``(own, bits, low, high) -> grid``, whose points are what ``round`` gives.
      start: ``(bits, low, high) -> scalar``, where the number that is trained (``own``)
        starts; None if there is no such number.
    """

    round: Callable[[Any, Any, Any, Any, Any, Any], Any]
    grid: Callable[[Any, Any, Any, Any], ActivationGrid]
    start: Callable[[Any, Any, Any], Any] | None = None


class Calibration(NamedTuple):
    """Where the ranges of activations come from.

    Attributes:
      range: ``(observation, bits) -> (low, high)``; see ``Observation``.
      needs: names in ``pfrl.methods.base.STATISTICS``.
    """

    range: "Callable[[Observation, int], tuple[float, float]]"
    needs: frozenset[str] = frozenset({"sites"})


class Rounder(NamedTuple):
    """Which point of its grid a weight becomes, where that is not the nearest.

    Attributes:
      prepare: called once for a network; returns ``(variables, bits by layer, alive by kernel) ->
        variables`` of full size, whose kernels hold points of their grids.
      needs: names in ``pfrl.methods.base.STATISTICS``.
      quantizers: names of the weight quantizers whose grids it knows; empty for all.
    """

    prepare: "Callable[[Statistics], Callable[..., dict[str, Any]]]"
    needs: frozenset[str] = frozenset()
    quantizers: frozenset[str] = frozenset()


class Equalizer(NamedTuple):
    """What is done to the base network before it is looked at, and leaves its outputs as they are.

    Attributes:
      prepare: called once for a network, with its batches alone; returns its variables.
      needs: names in ``pfrl.methods.base.STATISTICS``.
    """

    prepare: "Callable[[Statistics], dict[str, Any]]"
    needs: frozenset[str] = frozenset()


WEIGHT_QUANTIZERS: Registry[WeightQuantizer] = Registry("weight_quantizer", ROOM)
ACTIVATION_QUANTIZERS: Registry[ActivationQuantizer] = Registry("activation_quantizer", ROOM)
CALIBRATIONS: Registry[Calibration] = Registry("calibration", ROOM)
ROUNDINGS: Registry[Rounder] = Registry("rounding", ROOM)
EQUALIZERS: Registry[Equalizer] = Registry("equalizer", ROOM)

register(
    "rounding", "nearest", Rounder(lambda statistics: lambda variables, bits, alive: variables)
)
register("equalizer", "none", Equalizer(lambda statistics: statistics.variables))

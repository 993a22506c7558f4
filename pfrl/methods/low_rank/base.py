"""The protocol of decompositions: how a layer's kernel is taken for a matrix."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pfrl.registry import Registry


class Decomposition(NamedTuple):
    """How one layer becomes two, with an axis of channels between them.

    Attributes:
      first_axes: ``number of the taps' axes -> those along which the first of two convolutions
        slides``; the second one slides along the others.
      obstacle: ``sizes of the taps -> why such a convolution cannot become two``, or None if it
        can.
      dense: why a dense layer cannot, or None.
    """

    first_axes: Callable[[int], tuple[int, ...]]
    obstacle: Callable[[Sequence[int]], str | None]
    dense: str | None = "it is dense; choose 'svd'"


DECOMPOSITIONS: Registry[Decomposition] = Registry("decomposition", ("pfrl.methods.low_rank",))

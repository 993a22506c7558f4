"""The protocol of repairs: kernels that take over from the channels that went."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pfrl.methods.base import Statistics
from pfrl.registry import Registry, register

if TYPE_CHECKING:
    from pfrl.graph import Variables


class Repair(NamedTuple):
    """How the layers that lost inputs are changed.

    Attributes:
      prepare: called once for a network; returns ``channels that stay by group -> arrays of
        full size``, which is called for every policy. Rows of removed inputs do not matter.
      needs: names in ``pfrl.methods.base.STATISTICS``.
    """

    prepare: "Callable[[Statistics], Callable[[Mapping[str, np.ndarray]], Variables]]"
    needs: frozenset[str] = frozenset()


REPAIRS: Registry[Repair] = Registry("repair", rooms=("pfrl.methods.repair",))

register("repair", "none", Repair(lambda statistics: lambda kept: statistics.variables))

"""The protocol of sparsifiers: which weights of a kernel stay."""

from collections.abc import Callable
from typing import Any, NamedTuple

from pfrl.registry import Registry


class Sparsifier(NamedTuple):
    """How a kernel is made sparse.

    Attributes:
      mask: ``(kernel, share, alive) -> bool`` of the kernel's shape, what stays. Traced; the
        share of zeros and ``alive`` (0/1, what of the kernel is there) may be so too.
      stays: ``(shape, share) -> how many weights stay``, of a kernel that is not there yet.
      shares: the shares of zeros beside 0 that it can make; any if there are none.
    """

    mask: Callable[[Any, Any, Any], Any]
    stays: Callable[[tuple[int, ...], float], int]
    shares: tuple[float, ...] = ()


SPARSIFIERS: Registry[Sparsifier] = Registry("sparsifier", rooms=("pfrl.methods.sparsity",))

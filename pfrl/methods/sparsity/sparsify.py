"""Weight sparsification: which elements of a kernel are off, and how many in which layer.

The masks are functions of traced values, equal on a network with channels masked and on
the one with them sliced off; the shares of the layers are found on the host.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.graph import Graph, Variables
from pfrl.methods.sparsity.base import Sparsifier
from pfrl.registry import register

Scalar = float | jax.Array
"""A number that may be traced."""


class SparsityError(ValueError):
    """A share or schedule that cannot be; the message says what is expected."""


def zhu_gupta(step: Scalar, begin: int, end: int, initial: Scalar, final: Scalar) -> jax.Array:
    """Sparsity at a training step: fast at first, when there is much to spare, then ever slower.

    Zhu and Gupta 2017 (arXiv 1710.01878)::

        s(t) = s_f + (s_i − s_f) (1 − (t − t_0) / (n Δt))³    for t_0 ≤ t ≤ t_0 + n Δt

    and ``s_i`` before, ``s_f`` after. How often the mask is made anew (``Δt``) is the
    caller's choice.

    Args:
      step: ``t``, in training steps.
      begin, end: ``t_0`` and ``t_0 + n Δt``.
      initial, final: ``s_i`` and ``s_f``, shares of zeros in [0, 1].

    Raises:
      SparsityError: if the schedule does not end after it begins.
    """
    if not begin < end:
        raise SparsityError(
            f"the schedule begins at step {begin} and ends at step {end};"
            " expected an end after the beginning"
        )
    left = 1 - jnp.clip((step - begin) / (end - begin), 0, 1)
    return final + (initial - final) * left**3


def magnitude_mask(kernel: jax.Array, sparsity: Scalar, alive: Any = None) -> jax.Array:
    """True for all alive elements but the smallest in magnitude.

    Exactly ``zeros_of(sparsity, alive elements)`` of them are off. Of equal magnitudes
    the first stay.

    Args:
      kernel: any shape.
      sparsity: share of the alive elements that are off, in [0, 1].
      alive: 0/1, broadcastable to the kernel, or None if all are alive. The others are
        off and not counted, so that the mask is that of the sliced kernel.

    Returns:
      bool, of the kernel's shape.
    """
    magnitudes = _alive_magnitudes(kernel, alive).ravel()
    counted = (magnitudes >= 0).sum()
    off = jnp.round(jnp.float32(sparsity) * counted.astype(jnp.float32))
    return (_ranks(magnitudes) < counted - off.astype(counted.dtype)).reshape(kernel.shape)


def zeros_of(sparsity: float, elements: int) -> int:
    """How many of so many elements ``magnitude_mask`` switches off: what a file's size needs.

    ``round(sparsity · elements)``, halves to the even number, in float32 as where the share
    is traced: a share that is a whole number of up to 2²² elements gives that number.
    """
    return int(np.round(np.float32(sparsity) * np.float32(elements)))


def n_of_m_mask(
    kernel: jax.Array, n: int | jax.Array, m: int, axis: int = -2, alive: Any = None
) -> jax.Array:
    """True for the ``n`` largest of every ``m`` consecutive inputs of every output.

    The pattern of sparse tensor cores with 2:4 (Mishra et al. 2021, arXiv 2104.08378).
    Blocks are of alive elements in their order, as they are in the sliced kernel. A last
    block of fewer than ``m`` keeps its ``n`` largest too, and all if it has no more: one
    input alone, as depthwise kernels have, stays. Of equal magnitudes the first stay.

    Args:
      kernel: any shape.
      n: 1 to ``m``, may be traced.
      m: block length.
      axis: of the input channels: -2 in HWIO and IO, whose taps are blocks of their own.
      alive: as of ``magnitude_mask``.

    Returns:
      bool, of the kernel's shape.

    Raises:
      SparsityError: if ``n`` is known and not in 1 to ``m``.
    """
    if isinstance(n, int) and not 1 <= n <= m:
        raise SparsityError(f"expected to keep 1 to {m} of {m}, got {n}")
    magnitudes = jnp.moveaxis(_alive_magnitudes(kernel, alive), axis, -1)
    living = magnitudes >= 0
    order = jnp.argsort(~living, axis=-1, stable=True)
    size = magnitudes.shape[-1]
    close = jnp.take_along_axis(magnitudes, order, -1)
    widths = [(0, 0)] * (kernel.ndim - 1) + [(0, -size % m)]
    padded = jnp.pad(close, widths, constant_values=-1)
    ranks = _ranks(padded.reshape(*padded.shape[:-1], -1, m)).reshape(padded.shape)
    stays = jnp.take_along_axis(ranks[..., :size] < n, jnp.argsort(order, axis=-1), -1)
    return jnp.moveaxis(stays & living, -1, axis)


def n_of_m_stays(shape: tuple[int, ...], n: int, m: int) -> int:
    """How many weights ``n_of_m_mask`` leaves of a kernel ``[..., I, O]``."""
    blocks, rest = divmod(shape[-2], m)
    return math.prod(shape) // max(shape[-2], 1) * (blocks * n + min(n, rest))


def n_of_m(n: int, m: int) -> Sparsifier:
    """The sparsifier of the pattern n:m along the input channels."""
    return Sparsifier(
        lambda kernel, share, alive: n_of_m_mask(kernel, n, m, alive=alive),
        lambda shape, share: n_of_m_stays(shape, n, m),
        (1 - n / m,),
    )


def _magnitude_stays(shape: tuple[int, ...], share: float) -> int:
    return math.prod(shape) - zeros_of(share, math.prod(shape))


register("sparsifier", "magnitude", Sparsifier(magnitude_mask, _magnitude_stays))
register("sparsifier", "2:4", n_of_m(2, 4))
register("sparsifier", "4:8", n_of_m(4, 8))


def _alive_magnitudes(kernel: jax.Array, alive: Any) -> jax.Array:
    """Absolute values, and -1 for what is not alive."""
    magnitudes = jnp.abs(kernel)
    return magnitudes if alive is None else jnp.where(jnp.asarray(alive, bool), magnitudes, -1)


def _ranks(values: jax.Array) -> jax.Array:
    """For every value on the last axis, how many are larger or equal and before it."""
    return jnp.argsort(jnp.argsort(-values, axis=-1, stable=True), axis=-1)


def allocate(graph: Graph, variables: Variables, total: float) -> dict[str, float]:
    """A share of zeros for every layer: the smallest elements of all kernels together go.

    Every kernel keeps its largest element; what it cannot take the others do.

    Args:
      graph: of the network.
      variables: its arrays, of full size or sliced.
      total: share of zeros in all kernels, which have ``round(total · elements)`` of them.

    Returns:
      by layer the number of zeros over the number of elements, the same for layers that
      share a kernel; ``magnitude_mask`` makes of it the same number of zeros.

    Raises:
      SparsityError: if so many zeros do not fit.
    """
    kernels = list(dict.fromkeys(layer.kernel for layer in graph.layers))
    magnitudes = [np.abs(np.asarray(variables[name], np.float64)).ravel() for name in kernels]
    for each in magnitudes:
        each[each.argmax()] = np.inf
    every = np.concatenate([*magnitudes, []])
    sizes = np.array([each.size for each in magnitudes], int)
    wanted, room = round(total * every.size), every.size - len(sizes)
    if not 0 <= wanted <= room:
        raise SparsityError(
            f"a share of {total} is {wanted} zeros, and the kernels have room for 0 to {room};"
            " ask for another share"
        )
    owner = np.repeat(np.arange(len(sizes)), sizes)
    stays = np.argsort(-every, kind="stable")[: every.size - wanted]
    counts = np.bincount(owner[stays], minlength=len(sizes))
    shares = dict(zip(kernels, ((sizes - counts) / sizes).tolist(), strict=True))
    return {layer.name: shares[layer.kernel] for layer in graph.layers}

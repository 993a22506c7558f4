"""Non-uniform quantization: every kernel holds ``2^bits`` values, found by k-means.

Weight sharing of Deep Compression (Han et al. 2016, arXiv 1510.00149, section 3): a kernel
is stored as indices of ``bits`` bits into a codebook of float32 values. Codebooks are fitted
on the host and used in traced code, where they are all of one length, so that a search over
bit widths compiles once.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.methods.quantization.kmeans import kmeans, sort_values
from pfrl.methods.quantization.uniform import FLOAT_BITS

ENTRIES = 256
"""Length of every codebook in traced code; those of less than 8 bits use its first entries."""
MOST_BITS = 8
TRAINED = ("weights", "clusters", "both")
"""What ``codebook_quantize`` passes gradients to."""


class CodebookError(ValueError):
    """What is to be trained is nothing that a codebook has; the message says what is."""


def fit_codebooks(
    kernel: Any,
    alive: Any = None,
    *,
    init: str = "quantile",
    seed: int = 0,
    iterations: int = 300,
    zero: bool = False,
) -> np.ndarray:
    """A codebook of a kernel for every bit width from 1 to 8, float32 ``[8, 256]``.

    Row ``b - 1`` is for ``b`` bits. Entries that are not needed repeat the last one.

    Args:
      kernel: any shape.
      alive: 0 and 1, broadcastable to the kernel: only weights at a 1 count.
      init, seed, iterations: see ``kmeans``.
      zero: whether entry 0 is exactly zero; see ``codebook_quantize``.

    Raises:
      KMeansError: see ``kmeans``.
    """
    kernel = np.asarray(kernel)
    if alive is not None:
        kernel = kernel[np.broadcast_to(np.asarray(alive) > 0, kernel.shape)]
    values = sort_values(kernel)
    rows = []
    for bits in range(1, MOST_BITS + 1):
        centers = kmeans(values, 2**bits, init=init, seed=seed, iterations=iterations, zero=zero)
        if zero:
            centers = np.concatenate([[0.0], centers[centers != 0]])
        rows.append(np.pad(centers, (0, ENTRIES - len(centers)), mode="edge"))
    return np.asarray(rows, np.float32)


def codebook_of(codebooks: Any, bits: int | jax.Array) -> jax.Array:
    """The row ``[256]`` for a bit width, which may be traced; at 32 bits any row will do."""
    return jnp.asarray(codebooks)[jnp.clip(bits, 1, MOST_BITS) - 1]


def assign(kernel: jax.Array, centers: jax.Array, used: int | jax.Array) -> jax.Array:
    """Index of the nearest of the first ``used`` centers, uint8 and of the kernel's shape.

    Halfway between two the smaller center is taken. Bisection in the sorted centers
    takes no more memory than the kernel. Nothing of it has a gradient.

    Args:
      kernel: any shape.
      centers: ``[256]``, in any order.
      used: scalar from 1 to 256, may be traced.
    """
    centers = jnp.where(jnp.arange(ENTRIES) < used, centers, jnp.inf)
    order = jnp.argsort(centers)
    ascending = centers[order]
    middles = (ascending[1:] + ascending[:-1]) / 2
    return order.astype(jnp.uint8)[jnp.searchsorted(middles, kernel)]


def lookup(indices: jax.Array, centers: jax.Array) -> jax.Array:
    """The centers at the indices; a center's gradient is the sum of those of its weights."""
    return centers[indices.astype(jnp.int32)]


def codebook_quantize(
    kernel: jax.Array,
    centers: jax.Array,
    bits: int | jax.Array,
    alive: jax.Array | None = None,
    *,
    train: str = "weights",
    indices: jax.Array | None = None,
    zero: bool = False,
) -> jax.Array:
    """The kernel with every weight replaced by a center; unchanged at 32 bits.

    What is trained (as PocketFlow calls it):

    - 'weights': gradients pass straight through to the weights; ``refit`` the
      centers from time to time.
    - 'clusters': the centers, each with the sum of the gradients of its weights.
      Give the ``indices`` of the start, or weights change their cluster on the way.
    - 'both': weights and centers.

    Args:
      kernel: any shape.
      centers: ``[256]``, of which the first ``2^bits`` are in use.
      bits: scalar, 1 to 8 or 32, may be traced.
      alive: 0 and 1, broadcastable to the kernel: what is 0 stays zero.
      train: one of ``TRAINED``.
      indices: of the kernel's weights, from ``assign``, to keep; else they are assigned anew.
      zero: whether entry 0 is zero, and stays it.

    Raises:
      CodebookError: if ``train`` is none of the above.
    """
    if train not in TRAINED:
        raise CodebookError(f"cannot train {train!r}; choose one of {', '.join(TRAINED)}")
    centers = centers.astype(kernel.dtype)
    if zero:
        centers = _with_zero(centers)
    if train == "weights":
        centers = jax.lax.stop_gradient(centers)
    if indices is None:
        fixed = jax.lax.stop_gradient((kernel, centers))
        indices = assign(*fixed, 2 ** jnp.minimum(bits, MOST_BITS))
    quantized = lookup(indices, centers)
    if train != "clusters":
        # Exactly the center: what is added is zero, with the gradient of the kernel.
        quantized += kernel - jax.lax.stop_gradient(kernel)
    if alive is not None:
        quantized *= alive.astype(kernel.dtype)
    return jnp.where(bits >= FLOAT_BITS, kernel, quantized)


def refit(
    kernel: jax.Array,
    indices: jax.Array,
    centers: jax.Array,
    alive: jax.Array | None = None,
    *,
    zero: bool = False,
) -> jax.Array:
    """Every center at the mean of its weights, ``[256]``: a step of Lloyd's that may be traced.

    A center without weights stays where it is. For the arguments see ``codebook_quantize``.
    """
    weights = jnp.ones_like(kernel) if alive is None else jnp.broadcast_to(alive, kernel.shape)
    places, weights = indices.astype(jnp.int32), weights.astype(centers.dtype)
    counts = jnp.zeros_like(centers).at[places].add(weights)
    sums = jnp.zeros_like(centers).at[places].add(kernel.astype(centers.dtype) * weights)
    centers = jnp.where(counts > 0, sums / jnp.maximum(counts, 1), centers)
    return _with_zero(centers) if zero else centers


def _with_zero(centers: jax.Array) -> jax.Array:
    return jnp.where(jnp.arange(ENTRIES) == 0, 0, centers)

"""Non-uniform quantization: every kernel holds ``2^bits`` values, found by k-means.

Weight sharing of Deep Compression (Han et al. 2016, arXiv 1510.00149, section 3): a kernel
is stored as indices of ``bits`` bits into a codebook of float32 values. Codebooks are fitted
on the host and used in traced code, where they are all of one length, so that a search over
bit widths compiles once. There are three quantizers, by what training changes:

- 'codebook_weights': gradients pass straight through to the weights.
- 'codebook_clusters': the centers, each with the mean of the gradients of its weights, which
  stay in the cluster that they started in.
- 'codebook': weights and centers.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.methods.quantization.base import WeightQuantizer
from pfrl.methods.quantization.kmeans import kmeans
from pfrl.methods.quantization.uniform import FLOAT_BITS, straight_through
from pfrl.registry import register

ENTRIES = 256
"""Length of every codebook in traced code; those of less than 8 bits use its first entries."""
MOST_BITS = 8


def fit_centers(kernel: np.ndarray, bits: int, alive: np.ndarray | None = None) -> np.ndarray:
    """float32 ``[256]``, the first ``2^bits`` in use; of no weights or no codebook zeros.

    Args:
      kernel: any shape.
      bits: 1 to 8, or 32 for no codebook.
      alive: 0 and 1, broadcastable to the kernel: only weights at a 1 count.
    """
    values = kernel if alive is None else kernel[np.broadcast_to(alive > 0, kernel.shape)]
    if bits >= FLOAT_BITS or not values.size:
        return np.zeros(ENTRIES, np.float32)
    return _padded(kmeans(values, 2**bits))


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


def codebook_quantize(
    kernel: jax.Array,
    centers: jax.Array,
    bits: int | jax.Array,
    alive: jax.Array | None = None,
    *,
    train_weights: bool = True,
    train_centers: bool = True,
    indices: jax.Array | None = None,
) -> jax.Array:
    """The kernel with every weight replaced by a center; unchanged at 32 bits.

    Args:
      kernel: any shape.
      centers: ``[256]``, of which the first ``2^bits`` are in use.
      bits: scalar, 1 to 8 or 32, may be traced.
      alive: 0 and 1, broadcastable to the kernel: what is 0 stays zero.
      train_weights: whether gradients pass straight through to the weights.
      train_centers: whether a center gets the sum of the gradients of its weights.
      indices: of the kernel's weights, from ``assign``, to keep; else they are assigned anew.
    """
    centers = centers.astype(kernel.dtype)
    if not train_centers:
        centers = jax.lax.stop_gradient(centers)
    if indices is None:
        fixed = jax.lax.stop_gradient((kernel, centers))
        indices = assign(*fixed, 2 ** jnp.minimum(bits, MOST_BITS))
    quantized = centers[indices.astype(jnp.int32)]
    if train_weights:
        # Exactly the center: what is added is zero, with the gradient of the kernel.
        quantized += kernel - jax.lax.stop_gradient(kernel)
    if alive is not None:
        quantized *= alive.astype(kernel.dtype)
    return jnp.where(bits >= FLOAT_BITS, kernel, quantized)


def _round(
    kernel: Any, own: Mapping[str, Any], bits: Any, alive: Any, weights: bool, centers: bool
) -> jax.Array:
    present = jnp.asarray(kernel.size if alive is None else alive.sum(), jnp.float32)
    # The mean gradient of a center's weights, not their sum: it learns as fast as they do.
    share = 2.0 ** jnp.minimum(bits, MOST_BITS) / jnp.maximum(present, 1)
    table = straight_through(own["centers"] * share, own["centers"])
    return codebook_quantize(
        kernel,
        table,
        bits,
        alive,
        train_weights=weights,
        train_centers=centers,
        indices=own.get("indices"),
    )


def _start(kernel: Any, bits: int, alive: Any, fixed: bool) -> dict[str, Any]:
    centers = fit_centers(np.asarray(kernel), bits, alive)
    if not fixed:
        return {"centers": centers}
    used = 2 ** min(bits, MOST_BITS)
    return {"centers": centers, "indices": np.asarray(assign(kernel, jnp.asarray(centers), used))}


def _restored(kernel: np.ndarray, table: Any, bits: int, fixed: bool) -> dict[str, Any]:
    """The different values of a rounded kernel are its centers."""
    values = kernel if bits < FLOAT_BITS else np.zeros_like(kernel)
    centers = np.unique(values)
    if len(centers) > 2 ** min(bits, MOST_BITS):
        centers = centers[centers != 0]  # what is zero does not stay
    found = {"centers": _padded(centers)}
    if fixed:
        middles = (centers[1:] + centers[:-1]) / 2
        found["indices"] = np.searchsorted(middles, values).astype(np.uint8)
    return found


def _padded(centers: np.ndarray) -> np.ndarray:
    """float32 ``[256]``; entries that are not needed repeat the last one."""
    return np.pad(centers, (0, ENTRIES - len(centers)), mode="edge").astype(np.float32)


def _quantizer(weights: bool, centers: bool) -> WeightQuantizer:
    fixed = not weights
    return WeightQuantizer(
        partial(_round, weights=weights, centers=centers),
        start=partial(_start, fixed=fixed),
        trained=frozenset({"centers"} if centers else ()),
        cut={"indices": "weights"},
        least_bits=1,
        restored=partial(_restored, fixed=fixed),
    )


register("weight_quantizer", "codebook", _quantizer(True, True))
register("weight_quantizer", "codebook_weights", _quantizer(True, False))
register("weight_quantizer", "codebook_clusters", _quantizer(False, True))

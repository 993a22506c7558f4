"""A compressed network's arrays as one packed file, and the arrays of the file."""

from pathlib import Path
from typing import Any

import numpy as np

from pfrl.compression.recipe import Recipe
from pfrl.compression.rounding import own_arrays
from pfrl.compression.sliced import Compressed
from pfrl.deploy.packed.file import (
    Array,
    Codebook,
    Dense,
    PackedError,
    Sizes,
    Uniform,
    read_restored,
    write_packed,
)
from pfrl.deploy.packed.size import Stored
from pfrl.deploy.packed.storage import Storage
from pfrl.graph import Variables
from pfrl.methods.quantization.base import WEIGHT_QUANTIZERS
from pfrl.methods.quantization.uniform import FLOAT_BITS
from pfrl.training.optimizers import QUANTIZER

FORMAT = "pfrl packed network"


def pack(small: Compressed, path: Path, huffman: bool = False) -> Sizes:
    """Write the network's arrays as one file, each as small as its encoding is.

    Quantized kernels are integers with their scales, or indices with their centers; of
    sparse ones there are the weights that stay; see ``Storage``. The arrays take exactly the
    ``bytes`` of a ``CostModel`` with the same recipe. The header has the policy, the recipe
    and what activations are rounded with. The program is not in the file: ``pfrl.save``
    writes it.

    Args:
      small: from ``compress``, trained or not.
      path: where the file appears when it is whole.
      huffman: whether integers and indices may be Huffman-coded where that is smaller
        still. By how much depends on the values.

    Raises:
      PackedError: if a kernel that is quantized holds values that are no finite numbers.
      FileError: if the file cannot be written.
    """
    policy, recipe = small.policy, small.recipe
    storage = Storage(small.graph, recipe)
    plan = storage.stored(policy.counts(small.graph), policy.weight_bits, policy.sparsity)
    bits = storage.bits(policy.weight_bits) if small.quantized else {}
    arrays = {name: _array(small, name, plan[name], bits.get(name, FLOAT_BITS)) for name in plan}
    told = {
        told
        for name in bits
        for told in _restored(
            name, np.asarray(small.variables[name]), plan[name], bits[name], recipe
        )
    }
    rest = small.variables.keys() - plan.keys() - told
    meta = {
        "format": FORMAT,
        "policy": policy.to_json(),
        "recipe": recipe.to_json(),
        "ranges": {name: [float(end) for end in ends] for name, ends in small.ranges.items()},
        "bits": bits,
        "quantizer": {name: np.asarray(small.variables[name]).tolist() for name in sorted(rest)},
    }
    return write_packed(path, arrays, meta, huffman)


def unpack(path: Path) -> Variables:
    """The arrays of a file of ``pack``, with which the network has the same outputs.

    Names, shapes and types are those of ``Compressed.variables``. Kernels that were quantized
    hold the values that they are rounded to, and are rounded to the same ones again.

    Raises:
      PackedError: if the file is missing, damaged or has something else in it. Nothing in
        it is executed.
    """
    found, meta = read_restored(path)
    if meta.get("format") != FORMAT:
        raise PackedError(f"{path} is no packed network; expected a file that pack wrote")
    variables: Variables = {name: restored.array for name, restored in found.items()}
    try:
        recipe = Recipe.from_json(meta["recipe"])
        for name, bits in meta["bits"].items():
            array, stored, table = found[name].array, found[name].stored, found[name].table
            variables |= _restored(name, array, stored, bits, recipe, table)
        for name, values in meta["quantizer"].items():
            variables[name] = np.asarray(values, "u1" if name.endswith(".indices") else "f4")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PackedError(f"the header of {path} is damaged ({error}); make it again") from error
    return variables


def _array(small: Compressed, name: str, stored: Stored, bits: int) -> Array:
    """A variable for the file; kernels that are smaller in float are not rounded to a grid."""
    value = np.asarray(small.variables[name])
    stays = np.asarray(small.weight_masks.get(name, np.ones(value.shape, bool)))
    if bits >= FLOAT_BITS:
        return Dense(value, stays)
    if not np.isfinite(value).all():
        raise PackedError(
            f"'{name}' has values that are no finite numbers, and cannot be quantized; train the"
            " network again with a lower learning rate"
        )
    quantizer, own = WEIGHT_QUANTIZERS[small.recipe.weights], own_arrays(small.variables, name)
    if stored.kind == "uniform" and quantizer.steps is not None:
        return _uniform(np.where(stays, value, 0), quantizer.steps(value, own, bits), bits, stays)
    if quantizer.steps is None:
        value = np.asarray(quantizer.round(value, own, np.int32(bits), None))
    if stored.kind == "codebook":
        return _codebook(value, stays, stored)
    return Dense(value, stays)


def _uniform(kernel: np.ndarray, scale: np.ndarray, bits: int, stays: np.ndarray) -> Uniform:
    levels = np.float32(2 ** (bits - 1) - 1)
    ints = np.clip(np.round(kernel / scale), -levels, levels)
    return Uniform(ints.astype(np.int8), scale, bits, stays)


def _codebook(kernel: np.ndarray, stays: np.ndarray, stored: Stored) -> Codebook:
    """Of the centers those that are in use, the last one repeated up to the planned number."""
    centers = np.unique(kernel[stays])
    indices = np.minimum(np.searchsorted(centers, kernel), len(centers) - 1)
    missing = max(stored.table[0] - len(centers), 0)
    centers = np.pad(centers, (0, missing), mode="edge")
    return Codebook(indices.astype(np.uint8), centers, stored.bits, stays)


def _restored(
    name: str, kernel: np.ndarray, stored: Stored, bits: int, recipe: Recipe, table: Any = None
) -> Variables:
    """What the kernel in the file tells of its quantizer, so that it is rounded as before.

    Without a table of steps, as of a kernel of 32 bits, the steps are 1: nobody reads them.
    """
    quantizer = WEIGHT_QUANTIZERS[recipe.weights]
    if quantizer.steps is not None:
        if stored.kind != "uniform" and bits < FLOAT_BITS:
            return {}
        if table is None or stored.kind != "uniform":
            table = np.ones(kernel.shape[-1:], np.float32)
    own = quantizer.restored(kernel, table, bits)
    return {f"{QUANTIZER}{name}.{part}": value for part, value in own.items()}

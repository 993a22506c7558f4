"""A compressed network's arrays as one packed file, and the arrays of the file."""

from pathlib import Path

import numpy as np

from pfrl.compression.recipe import Recipe
from pfrl.compression.sliced import Compressed
from pfrl.deploy.packed.file import (
    Array,
    Codebook,
    Dense,
    PackedError,
    Restored,
    Sizes,
    Uniform,
    read_restored,
    write_packed,
)
from pfrl.deploy.packed.size import Stored
from pfrl.deploy.packed.storage import Storage
from pfrl.graph import Variables
from pfrl.methods.quantization.codebook import ENTRIES, MOST_BITS
from pfrl.methods.quantization.lsq import SMALLEST_STEP
from pfrl.methods.quantization.uniform import FLOAT_BITS, SHORTEST
from pfrl.training.optimizers import QUANTIZER

FORMAT = "pfrl packed network"
STEPPED = frozenset({"mse", "lsq"})
"""Ways to round kernels that keep the step of every output channel among the variables."""


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
        f"{QUANTIZER}{name}{part}"
        for name in bits
        for part in _told(recipe, plan[name].kind, bits[name])
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
            variables |= _quantizer(name, found[name], bits, recipe)
        for name, values in meta["quantizer"].items():
            variables[name] = np.asarray(values, "u1" if name.endswith(".indices") else "f4")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PackedError(f"the header of {path} is damaged ({error}); make it again") from error
    return variables


def _array(small: Compressed, name: str, stored: Stored, bits: int) -> Array:
    """A variable for the file; kernels that are smaller in float are not rounded to a grid."""
    value = np.asarray(small.variables[name])
    stays = np.asarray(small.support.get(name, np.ones(value.shape, bool)))
    if bits >= FLOAT_BITS:
        return Dense(value, stays)
    if not np.isfinite(value).all():
        raise PackedError(
            f"'{name}' has values that are no finite numbers, and cannot be quantized; train the"
            " network again with a lower learning rate"
        )
    if small.recipe.weights == "codebook":
        value = _looked_up(small.variables, name, bits)
    match stored.kind:
        case "uniform":
            return _uniform(np.where(stays, value, 0), _scale(small, name, bits), bits, stays)
        case "codebook":
            return _codebook(value, stays, stored)
        case _:
            return Dense(value, stays)


def _scale(small: Compressed, name: str, bits: int) -> np.ndarray:
    """float32 ``[O]``: the step of every output channel, as the network rounds with it."""
    if small.recipe.weights in STEPPED:
        step = np.asarray(small.variables[f"{QUANTIZER}{name}.step"], np.float32)
        return (
            np.maximum(step, np.float32(SMALLEST_STEP)) if small.recipe.weights == "lsq" else step
        )
    magnitudes = np.abs(np.asarray(small.variables[name]))
    largest = magnitudes.reshape(-1, magnitudes.shape[-1]).max(axis=0)
    return np.where(largest > SHORTEST, largest, np.float32(1)) / _levels(bits)


def _uniform(kernel: np.ndarray, scale: np.ndarray, bits: int, stays: np.ndarray) -> Uniform:
    ints = np.clip(np.round(kernel / scale), -_levels(bits), _levels(bits))
    return Uniform(ints.astype(np.int8), scale, bits, stays)


def _levels(bits: int) -> np.float32:
    return np.float32(2 ** (bits - 1) - 1)


def _looked_up(variables: Variables, name: str, bits: int) -> np.ndarray:
    """A kernel as its codebook rounds it."""
    centers = np.asarray(variables[f"{QUANTIZER}{name}.centers"], np.float32)[: 2**bits]
    indices = variables.get(f"{QUANTIZER}{name}.indices")
    if indices is None:
        indices = _nearest(centers, np.asarray(variables[name]))
    return centers[np.asarray(indices)]


def _nearest(centers: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Indices of the centers that ``codebook.assign`` takes."""
    order = np.argsort(centers, kind="stable")
    ascending = centers[order]
    return order[np.searchsorted((ascending[1:] + ascending[:-1]) / 2, values)]


def _codebook(kernel: np.ndarray, stays: np.ndarray, stored: Stored) -> Codebook:
    """Of the centers those that are in use, the last one repeated up to the planned number."""
    centers = np.unique(kernel[stays])
    indices = np.minimum(np.searchsorted(centers, kernel), len(centers) - 1)
    missing = max(stored.table[0] - len(centers), 0)
    centers = np.pad(centers, (0, missing), mode="edge")
    return Codebook(indices.astype(np.uint8), centers, stored.bits, stays)


def _told(recipe: Recipe, kind: str, bits: int) -> tuple[str, ...]:
    """Which of its quantizer's variables a kernel in the file tells, or nobody reads."""
    if recipe.weights in STEPPED:
        return (".step",) if kind == "uniform" or bits >= FLOAT_BITS else ()
    return (".centers", ".indices") if recipe.weights == "codebook" else ()


def _quantizer(name: str, restored: Restored, bits: int, recipe: Recipe) -> Variables:
    """What is told, so that the kernel is rounded as before."""
    kernel, uniform = restored.array, restored.stored.kind == "uniform"
    if recipe.weights in STEPPED:
        step = restored.table if uniform else np.ones(kernel.shape[-1:], np.float32)
        return {f"{QUANTIZER}{name}.step": step}
    if recipe.weights != "codebook":
        return {}  # The grid follows from the kernel: (q / L) · L / L is q / L for every float.
    values = kernel if bits < FLOAT_BITS else np.zeros_like(kernel)
    centers = np.unique(values)
    if len(centers) > 2 ** min(bits, MOST_BITS):
        centers = centers[centers != 0]  # what is zero does not stay
    found = {
        f"{QUANTIZER}{name}.centers": np.pad(centers, (0, ENTRIES - len(centers)), mode="edge")
    }
    if recipe.codebook == "clusters":
        found[f"{QUANTIZER}{name}.indices"] = _nearest(centers, values).astype(np.uint8)
    return found

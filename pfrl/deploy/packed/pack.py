"""A compressed network's arrays as one packed file, and the arrays of the file."""

from pathlib import Path

import numpy as np

from pfrl.compression.recipe import Recipe
from pfrl.compression.rounding import own_arrays
from pfrl.compression.sliced import Compressed
from pfrl.deploy.packed.encoding import TYPES, PackedError, Stored, decode, encode, values_of
from pfrl.deploy.packed.file import Sizes, read_packed, write_packed
from pfrl.deploy.packed.storage import Storage
from pfrl.graph import Variables
from pfrl.methods.quantization.base import WEIGHT_QUANTIZERS
from pfrl.methods.quantization.coding import codes as coded
from pfrl.methods.quantization.coding import layout, own_of
from pfrl.methods.quantization.uniform import FLOAT_BITS
from pfrl.training.optimizers import QUANTIZER

NO_TABLE = np.zeros(0, np.float32)


def pack(small: Compressed, path: str | Path) -> Sizes:
    """Write the network's arrays as one file, each as small as its encoding is.

    Quantized kernels are whole numbers with their quantizer's table, sparse ones the weights that
    stay (see ``Storage``): exactly the ``bytes`` of a ``CostModel`` with the same recipe. The
    header has policy, recipe and ranges of activations; ``pfrl.save`` writes the program too.

    Args:
      small: from ``compress``, trained or not.
      path: where the file appears when it is whole.

    Returns:
      the bytes of the file and of every array.

    Raises:
      PackedError: if a kernel that is quantized holds values that are no finite numbers.
      FileError: if the file cannot be written.
    """
    policy, recipe = small.policy, small.recipe
    storage = Storage(small.graph, recipe)
    plan = storage.stored(policy.counts(small.graph), policy.weight_bits, policy.sparsity)
    bits = storage.bits(policy.weight_bits) if small.quantized else {}
    arrays: dict[str, tuple[Stored, bytes]] = {}
    derived: set[str] = set()
    for name, stored in plan.items():
        payload = _encoded(small, name, stored, bits.get(name, FLOAT_BITS))
        arrays[name] = stored, payload
        if name in bits:
            derived |= _derived(name, *decode(stored, payload), bits[name], recipe).keys()
    beside = {
        name: None if name in derived else np.asarray(small.variables[name]).tolist()
        for name in sorted(small.variables.keys() - plan.keys())
    }
    meta = {
        "policy": policy.to_json(),
        "recipe": recipe.to_json(),
        "ranges": {name: [float(end) for end in ends] for name, ends in small.ranges.items()},
        "bits": bits,
        "quantizer": beside,
    }
    return write_packed(Path(path), arrays, meta)


def unpack(path: Path) -> Variables:
    """The arrays of a file of ``pack``, with which the network has the same outputs.

    Names, shapes and types are those of ``Compressed.variables``. Kernels that were quantized
    hold the values that they are rounded to, and are rounded to the same ones again.

    Raises:
      PackedError: if the file is missing, damaged or something else. Nothing is executed.
    """
    found, meta = read_packed(path)
    variables: Variables = {name: array for name, (array, _) in found.items()}
    try:
        recipe, derived = Recipe.from_json(meta["recipe"]), {}
        for name, bits in meta["bits"].items():
            derived |= _derived(name, *found[name], bits, recipe)
        for name, values in meta["quantizer"].items():
            variables[name] = derived[name] if values is None else np.asarray(values, np.float32)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PackedError(f"the header of {path} is damaged ({error}); make it again") from error
    return variables


def _encoded(small: Compressed, name: str, stored: Stored, bits: int) -> bytes:
    """The bytes of a variable; kernels that are smaller in float are rounded too."""
    value = np.asarray(small.variables[name])
    stays = np.asarray(small.weight_masks.get(name, np.ones(value.shape, bool)))
    codes, table = np.where(stays, value, np.zeros((), value.dtype)), NO_TABLE
    if bits < FLOAT_BITS:
        if not np.isfinite(value).all():
            message = f"'{name}' has values that are no finite numbers, and cannot be quantized"
            raise PackedError(f"{message}; train the network again with a lower learning rate")
        quantizer = WEIGHT_QUANTIZERS[small.recipe.weights]
        codes, table = coded(quantizer, codes, own_arrays(small.variables, name), bits, stays)
        if stored.format in TYPES:
            format = layout(quantizer, value.shape, bits, int(stays.sum())).format
            rounded = values_of(format, codes, table, bits)
            codes, table = np.where(stays, rounded, np.float32(0)), NO_TABLE
    return encode(stored, codes, table, stays)


def _derived(
    name: str, kernel: np.ndarray, table: np.ndarray, bits: int, recipe: Recipe
) -> Variables:
    """What a kernel's quantizer keeps beside it, as far as it follows from the file."""
    own = own_of(WEIGHT_QUANTIZERS[recipe.weights], kernel, table, bits)
    return {f"{QUANTIZER}{name}.{part}": value for part, value in own.items()}

"""Trained arrays from files of every usual kind; nothing of a file is executed."""

import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from pfrl.files import FileError, load_arrays

KINDS = "an .npz, .safetensors or .msgpack file, or the folder of an Orbax checkpoint"

_SAFETENSORS = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_IGNORED = frozenset({"opt_state", "step", "rngs", "rng"})
"""What a training state holds besides the network."""

_OF_OTHERS = frozenset(
    {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".h5", ".keras", ".onnx", ".tflite"}
)
"""How files end that people have, and that are programs or are read elsewhere."""


def read_weights(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """``(arrays by dotted name, what the file says about itself)``.

    An ``.npz`` as ``save_arrays`` writes it, ``.safetensors``, Flax's ``.msgpack``
    (``flax.serialization.to_bytes``), or an Orbax checkpoint: its folder, or that of a
    ``CheckpointManager``, of which the last step is taken. Of a nested state the names are joined
    by dots, parameters without their collection: ``{"params": {"Dense_0": {"kernel": ...}}}`` is
    ``Dense_0.kernel``; states of optimisers are left out.

    Arrays of ``.safetensors`` under PyTorch's names (``conv1.weight``) lie as PyTorch's do and are
    turned: ``[O, I, H, W]`` to ``[H, W, I, O]``, ``[O, I]`` to ``[I, O]``.

    Raises:
      FileError: if there is no such file, or it is damaged.
    """
    if path.is_dir():
        return _flat(_orbax(path)), {}
    if not path.is_file():
        raise FileError(f"no file {path}; expected {KINDS}")
    if path.suffix == ".safetensors":
        return _turned(_safetensors(path)), {}
    if path.suffix == ".msgpack":
        return _flat(_msgpack(path)), {}
    if path.suffix in _OF_OTHERS:
        raise FileError(
            f"{path} is no file of weights that is read here; expected {KINDS}. Of a network in"
            " PyTorch or Keras give an ONNX file as --model: its weights are in it"
        )
    return load_arrays(path)


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    """The format: 8 bytes with the length of a JSON header, the header, the arrays' bytes."""
    content = path.read_bytes()
    try:
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        data = memoryview(content)[8 + length :]
        arrays = {}
        for name, facts in header.items():
            if name == "__metadata__":
                continue
            start, end = facts["data_offsets"]
            dtype, shape = np.dtype(_SAFETENSORS[facts["dtype"]]), tuple(facts["shape"])
            if not 0 <= start <= end <= len(data) or end - start != dtype.itemsize * math.prod(
                shape
            ):
                raise ValueError(f"'{name}' has {end - start} bytes at {start}")
            arrays[name] = np.frombuffer(data[start:end], dtype).reshape(shape)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(
            f"{path} is no whole .safetensors file ({_first_line(error)}); fetch or make it again"
        ) from error
    return {name: _widened(array) for name, array in arrays.items()}


def _turned(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Kernels under PyTorch's names with their inputs before their outputs, at the end."""
    return {
        name: np.moveaxis(array, (1, 0), (-2, -1))
        if name.endswith("weight") and array.ndim > 1
        else array
        for name, array in arrays.items()
    }


def _msgpack(path: Path) -> Any:
    from flax import serialization

    try:
        return serialization.msgpack_restore(path.read_bytes())
    except Exception as error:  # msgpack and numpy each raise their own
        raise FileError(
            f"{path} is no whole .msgpack file of arrays ({_first_line(error)}); make it again with"
            " flax.serialization.to_bytes"
        ) from error


def _orbax(path: Path) -> Any:
    """The state of a checkpoint, in numpy; of many steps the last."""
    from etils import epath
    from orbax.checkpoint import PyTreeCheckpointHandler, args

    place = _item(path)
    if place is None:
        raise FileError(f"{path} is no Orbax checkpoint; expected {KINDS}")
    handler, folder = PyTreeCheckpointHandler(), epath.Path(place)
    try:
        shapes = handler.metadata(folder)
        wanted = _as_numpy(getattr(shapes, "tree", shapes))
        return handler.restore(folder, args=args.PyTreeRestore(restore_args=wanted))
    except Exception as error:  # tensorstore, JSON and Orbax each raise their own
        raise FileError(
            f"{path} is no whole Orbax checkpoint ({_first_line(error)}); save it again"
        ) from error


def _as_numpy(tree: Any) -> Any:
    import jax
    from orbax.checkpoint import RestoreArgs

    return jax.tree.map(lambda _: RestoreArgs(restore_type=np.ndarray), tree)


def _item(path: Path) -> Path | None:
    """The folder that holds a state: this one, the last step's, or one of a name within it."""
    if (path / "_METADATA").is_file():
        return path
    inside = sorted(each for each in path.iterdir() if each.is_dir())
    steps = sorted((each for each in inside if each.name.isdecimal()), key=lambda p: int(p.name))
    named = [each for each in inside if each.name in ("default", "state", "params", "model")]
    for each in [*steps[-1:], *named]:
        if found := _item(each):
            return found
    return None


def _flat(tree: Any) -> dict[str, np.ndarray]:
    """Arrays by dotted path, as networks name them."""
    if isinstance(tree, Mapping) and isinstance(tree.get("params"), Mapping):
        kept = {name: value for name, value in tree.items() if name not in _IGNORED}
        tree = {**kept.pop("params"), **kept}
    return {name: _widened(np.asarray(array)) for name, array in _leaves(tree)}


def _leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        items = tree.items()
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    else:
        if tree is not None:
            # Flax's variables keep their array one level below their name.
            yield prefix.removesuffix(".value"), tree
        return
    for key, value in items:
        yield from _leaves(value, f"{prefix}.{key}".removeprefix("."))


def _widened(array: np.ndarray) -> np.ndarray:
    """Half precision as float32, which numpy can compute in everywhere."""
    return array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

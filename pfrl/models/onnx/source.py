"""``from_onnx``: a network of an ONNX file, to be traced, trained and compressed like any other."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.graph.source import Source, Variables, as_inputs
from pfrl.models.onnx.check import ImportDifferenceError, check
from pfrl.models.onnx.laid import Laid, laid, relaid
from pfrl.models.onnx.names import renamed_roles, variable_names
from pfrl.models.onnx.operators.contract import last
from pfrl.models.onnx.program import OnnxProgram, narrow
from pfrl.models.onnx.reader import OnnxError, OnnxFile, read, understood
from pfrl.models.onnx.unfold import settled, unfolded
from pfrl.user_cache import digest, digest_of_code, instructions, kept_arrays

FREE = 64
"""Size that stands for a free one while a file is checked."""


def from_onnx(path: str | Path, *shapes: Sequence[int], channels_last: bool = False) -> Source:
    """A network of an ONNX file; nothing of the file is executed as code.

    Float arrays that are computed with are trainable, kernels as ``[H, W, I, O]`` and ``[I, O]``;
    means and variances of ``BatchNormalization`` are statistics, and work in training. Several
    outputs are an ``OrderedDict`` by the file's names.

    Args:
      path: of the file; arrays in other files are read if they lie in the same folder.
      shapes: of an example of every input, in the file's order of axes, where the file leaves
        sizes free.
      channels_last: whether images (inputs and outputs with two axes of space) have their
        channels last, however the file has them.

    Raises:
      OnnxError: if the file cannot be read, has an operator that is unknown, or gives other
        outputs than in ONNX Runtime (1e-4 of the largest).
    """
    file = read(Path(path))
    return load(file, shapes, channels_last and channel_axis(file) == 1)


def for_images(
    file: OnnxFile,
    image_shape: tuple[int, int, int],
    batches: Callable[[], Iterable[Any]] | None = None,
) -> Source:
    """The network of a file for images ``[N, H, W, C]``, whichever order of axes the file has.

    Args:
      file: what was read.
      image_shape: ``(H, W, C)``.
      batches: gives batches of training images; with it normalisations that were folded into
        convolutions are put back, see ``pfrl.models.onnx.unfold``.

    Raises:
      OnnxError: as ``from_onnx``, and if it is not for images of this shape.
    """
    if len(file.inputs) != 1:
        names = ", ".join(each.name for each in file.inputs)
        raise OnnxError(
            f"{file.path} has {len(file.inputs)} inputs ({names}), and the data give images alone;"
            " export it with one input. Traced, compressed and exported it can be in Python"
        )
    height, width, channels = image_shape
    orders = {True: (channels, height, width), False: image_shape}
    wanted = file.inputs[0].shape
    fitting = [turned for turned, order in orders.items() if _fits(wanted, order)]
    if not fitting:
        takes = ", ".join(_words(each.shape) for each in file.inputs)
        raise OnnxError(
            f"{file.path} takes {takes}, and the images are {height}x{width} with"
            f" {channels} channels; choose images of its size, or export it for these"
        )
    turned = fitting[0] if len(fitting) == 1 else channel_axis(file) == 1
    if batches is None or (whole := unfolded(file)).nodes == file.nodes:
        return load(file, [orders[turned]], turned)
    found = [each.shape for each in examples(whole, [orders[turned]])]
    program = OnnxProgram(whole, found)
    check(file, _source(program, turned=False), found)

    def watched(weights: Any, x: Any) -> Any:
        given = [Laid(x, last(4)) if turned else laid(x)]
        stored = {name: w.transpose(program.layout(name)) for name, w in weights.items()}
        return program(stored, given, False, watch=True)[1]

    # Every start and every process needs them, and large pictures take a quarter of a minute.
    facts = [turned, digest_of_code(), jax.__version__, instructions()]
    written = ("file", np.frombuffer(file.path.read_bytes(), np.uint8))
    seen = (("images", x) for x in batches())
    key = digest(facts, chain([written], program.weights.items(), seen))
    program.weights |= kept_arrays(
        "normalised", key, lambda: settled(program.weights, watched, batches())
    )
    return _source(program, turned)


def _fits(wanted: Sequence[int | None], shape: Sequence[int]) -> bool:
    sizes = zip(wanted[1:], shape, strict=False)
    return len(wanted) == len(shape) + 1 and all(size in (None, own) for size, own in sizes)


def _words(shape: Sequence[int | None]) -> str:
    return f"[{', '.join('any' if size is None else str(size) for size in shape)}]"


def load(file: OnnxFile, shapes: Sequence[Sequence[int]], turned: bool) -> Source:
    """See ``from_onnx``.

    Args:
      file: what was read.
      shapes: of an example of every input, or of none.
      turned: whether images come, and go, with their channels last, and the file has them first.
    """
    with understood(file.path):
        found = [each.shape for each in examples(file, shapes)]
        program = OnnxProgram(file, found)
        try:
            check(file, _source(program, turned=False), found)
        except ImportDifferenceError:
            program = OnnxProgram(file, found, differences=True)
            check(file, _source(program, turned=False), found)
        return _source(program, turned)


def examples(file: OnnxFile, shapes: Sequence[Sequence[int]] = ()) -> list[jax.ShapeDtypeStruct]:
    """Shape and type of one example of every input; free sizes as given, else usual ones.

    Raises:
      OnnxError: if an input has no axis for the examples.
    """
    found = []
    for number, each in enumerate(file.inputs):
        shape = _example(file, number, shapes[number] if number < len(shapes) else None)
        found.append(jax.ShapeDtypeStruct(shape, narrow(each.dtype)))
    return found


def _example(file: OnnxFile, number: int, given: Sequence[int] | None) -> tuple[int, ...]:
    each = file.inputs[number]
    if not each.shape:
        raise OnnxError(
            f"the input '{each.name}' of {file.path} has no axes; its first is that of the examples"
        )
    free = [size for size in each.shape[1:]]
    if given is not None and len(given) == len(free):
        return tuple(
            int(size) if size is not None else int(own)
            for size, own in zip(free, given, strict=True)
        )
    return tuple(3 if size is None and i == 0 and len(free) == 3 else size or FREE
                 for i, size in enumerate(free))  # fmt: skip


def _source(program: OnnxProgram, turned: bool) -> Source:
    """The program as a function of named variables.

    Args:
      program: the file's.
      turned: whether images come, and go, with their channels last.
    """
    names = variable_names(program)
    originals = {new: old for old, new in names.items()}
    statistics = renamed_roles(program, names)
    variables: Variables = {
        names[name]: np.ascontiguousarray(array.transpose(program.layout(name)), np.float32)
        for name, array in program.weights.items()
    }

    def apply(variables: Variables, x: Any, train: bool) -> tuple[Any, Variables]:
        weights = {originals[name]: array for name, array in variables.items()}
        arrays = [jnp.asarray(each) for each in as_inputs(x)]
        given = [
            Laid(each, last(4)) if turned and each.ndim == 4 else laid(each) for each in arrays
        ]
        values, updated = program(weights, given, train)
        outputs = [
            relaid(value, last(4) if turned and len(value.shape) == 4 else range(len(value.shape)))
            for value in values
        ]
        after = {name: updated.get(originals[name], variables[name]) for name in statistics}
        if len(outputs) == 1:
            return outputs[0], after
        # A plain dictionary would be sorted by JAX.
        return OrderedDict(zip(program.file.outputs, outputs, strict=True)), after

    trainable = frozenset(variables) - statistics
    return Source(apply, {name: jnp.asarray(v) for name, v in variables.items()}, trainable)


_OTHER_AXES = frozenset("Reshape Flatten Squeeze Unsqueeze Shape Gather DepthToSpace".split())
"""Operators behind which axes mean something else."""


def channel_axis(file: OnnxFile) -> int:
    """Where the channels of the first input are, by the first convolution that it meets: 1 or 3."""
    order = {file.inputs[0].name: list(range(len(file.inputs[0].shape)))}
    for node in file.nodes:
        axes = next((order[name] for name in node.inputs if name in order), None)
        if axes is None or node.op in _OTHER_AXES or node.op.startswith("Reduce"):
            continue
        if node.op == "Transpose":
            axes = [axes[place] for place in node.attributes.get("perm", range(len(axes))[::-1])]
        if node.op in ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool"):
            return axes[1]
        for name in node.outputs:
            order[name] = axes
    shape = file.inputs[0].shape
    few = [axis for axis in (1, 3) if len(shape) == 4 and shape[axis] in (1, 3, 4)]
    return few[0] if len(few) == 1 else 1

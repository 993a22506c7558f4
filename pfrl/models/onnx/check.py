"""Whether an imported network computes what its file does in ONNX Runtime."""

import jax
import numpy as np
import onnxruntime

from pfrl.graph.source import Source
from pfrl.models.onnx.reader import Input, OnnxError, OnnxFile

TOLERANCE = 1e-4
"""Largest difference of an output, relative to the largest output."""
BETWEEN_ITS_OWN, LOOSEST = 3.0, 0.1
"""Or so many times the difference between ONNX Runtime's own answers with and without its
optimisations, up to the latter: a trained detector that sees nothing in random numbers has outputs
of 1e-4 behind its sigmoid, which are rounding for a thousandth."""
EXAMPLES = 2


class ImportDifferenceError(OnnxError):
    """A network computes something else than its file."""


def check(file: OnnxFile, source: Source, shapes: list[tuple[int, ...]]) -> None:
    """Compare a network with its file on random inputs.

    Args:
      file: what was read.
      source: the network, of inputs in the order of axes of the file.
      shapes: of the inputs, without the examples.

    Raises:
      OnnxError: if ONNX Runtime does not run the file.
      ImportDifferenceError: if an output differs.
    """
    rng = np.random.default_rng(0)
    inputs = [
        _random(rng, each, (EXAMPLES, *shape))
        for each, shape in zip(file.inputs, shapes, strict=True)
    ]
    wanted = _expected(file, inputs)
    narrow = [x.astype(np.int32) if x.dtype == np.int64 else x for x in inputs]
    x = narrow[0] if len(narrow) == 1 else tuple(narrow)
    found = jax.jit(lambda v, x: source.apply(v, x, False)[0])(source.variables, x)
    outputs = [np.asarray(each) for each in jax.tree.leaves(found)]
    try:
        for name, ours, theirs in zip(file.outputs, outputs, wanted, strict=True):
            _compare(file, name, ours, theirs, TOLERANCE)
    except ImportDifferenceError:
        others = _expected(file, inputs, optimised=True)
        for name, ours, theirs, other in zip(file.outputs, outputs, wanted, others, strict=True):
            own = BETWEEN_ITS_OWN * _difference(other, theirs)
            _compare(file, name, ours, theirs, min(max(own, TOLERANCE), LOOSEST))


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest, relative to the largest output."""
    scale = np.abs(theirs).max(initial=0) or 1.0
    return float(np.abs(ours - theirs).max(initial=0) / scale)


def _compare(
    file: OnnxFile, name: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float
) -> None:
    if ours.shape != theirs.shape:
        raise OnnxError(
            f"{file.path} is not understood: its output '{name}' is {list(theirs.shape)} in ONNX"
            f" Runtime and {list(ours.shape)} here; please report it with the file"
        )
    theirs = theirs.astype(np.float64)
    if not np.isfinite(theirs).all():
        raise OnnxError(
            f"{file.path} gives numbers that are not finite on random inputs; its weights are"
            " damaged or diverged"
        )
    if not (error := _difference(ours, theirs)) <= tolerance:
        raise ImportDifferenceError(
            f"{file.path} is not understood: its output '{name}' differs by {error:.1e} of the"
            f" largest from ONNX Runtime's, more than {tolerance:.0e}; please report it with the"
            " file"
        )


def _random(rng: np.random.Generator, each: Input, shape: tuple[int, ...]) -> np.ndarray:
    if each.dtype.kind in "iu":
        return rng.integers(0, 2, shape).astype(each.dtype)
    if each.dtype.kind == "b":
        return rng.random(shape) < 0.5
    return rng.normal(size=shape).astype(each.dtype)


def _expected(
    file: OnnxFile, inputs: list[np.ndarray], optimised: bool = False
) -> list[np.ndarray]:
    """ONNX Runtime's outputs; example by example if the file fixes their number."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    names = [each.name for each in file.inputs]
    fixed = file.inputs[0].shape[0]
    try:
        session = onnxruntime.InferenceSession(
            file.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        if fixed is None:
            return list(map(np.asarray, session.run(None, dict(zip(names, inputs, strict=True)))))
        pieces = [
            session.run(None, {n: np.repeat(x[i : i + 1], fixed, 0) for n, x in
                               zip(names, inputs, strict=True)})
            for i in range(EXAMPLES)
        ]  # fmt: skip
    except Exception as error:  # the runtime's exceptions share no base class but Exception
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise OnnxError(
            f"{file.path} does not run in ONNX Runtime {onnxruntime.__version__} ({reason});"
            " export it again"
        ) from error
    return [np.concatenate([each[:1] for each in outputs]) for outputs in zip(*pieces, strict=True)]

"""Images in another size: nearest, linear and cubic, as ``Resize`` and ``Upsample`` say."""

import jax.numpy as jnp
import numpy as np

from pfrl.models.onnx.laid import Laid
from pfrl.models.onnx.operators.base import operator, unsupported


@operator("Resize")
def _resize(run, node, x, roi=None, scales=None, sizes=None):
    if scales is None and sizes is None:
        scales = roi  # opset 10
    if node.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise unsupported(node, "keeps the aspect ratio")
    axes = [axis % len(x.shape) for axis in node.attributes.get("axes", range(len(x.shape)))]
    found = None if scales is None else run.known(node, scales, "a scale").ravel().tolist()
    if found:
        lengths = {
            a: int(np.floor(x.shape[a] * s)) for a, s in zip(axes, found, strict=True) if s != 1
        }
        factors = dict(zip(axes, found, strict=True))
    else:
        wanted = zip(axes, run.sizes(node, sizes), strict=True)
        # The examples are never resized, however many the file was written for.
        lengths = {a: n for a, n in wanted if a > 0 and n != x.shape[a]}
        factors = {a: n / x.shape[a] for a, n in lengths.items()}
    return _resized(run, node, x, lengths, factors)


@operator("Upsample")
def _upsample(run, node, x, scales=None):
    found = node.attributes.get("scales")
    if found is None:
        found = run.known(node, scales, "a scale").ravel().tolist()
    lengths = {a: int(np.floor(x.shape[a] * s)) for a, s in enumerate(found) if s != 1}
    return _resized(run, node, x, lengths, dict(enumerate(found)))


def _resized(run, node, x: Laid, lengths: dict[int, int], factors: dict[int, float]) -> Laid:
    """One axis after the other: nearest by picking, all others as a product with a matrix."""
    mode = node.attributes.get("mode", "nearest")
    old = node.op == "Upsample" or run.opset < 11
    how = node.attributes.get(
        "coordinate_transformation_mode", "asymmetric" if old else "half_pixel"
    )
    for axis, length in lengths.items():
        place, size = x.layout.index(axis), x.shape[axis]
        if how == "tf_crop_and_resize":
            raise unsupported(node, f"resizes in the mode '{how}'")
        at = _coordinates(how, size, length, factors[axis])
        if mode == "nearest":
            rounding = node.attributes.get("nearest_mode", "floor" if old else "round_prefer_floor")
            x = _nearest(x, place, _ROUNDINGS[rounding](at), length)
        else:
            weights = _WEIGHTS[mode](node, at, size, factors[axis])
            array = jnp.moveaxis(jnp.moveaxis(x.array, place, -1) @ weights.T, -1, place)
            x = Laid(array, x.layout)
    return x


def _nearest(x: Laid, place: int, chosen: np.ndarray, length: int) -> Laid:
    """Whole repeats where it is those, which every runtime does fast; else picked places."""
    size = x.array.shape[place]
    chosen = np.clip(chosen.astype(int), 0, size - 1)
    if length % size == 0 and (chosen == np.arange(length) // (length // size)).all():
        return Laid(_repeat(x.array, length // size, place), x.layout)
    return Laid(jnp.take(x.array, chosen, place, mode="clip"), x.layout)


def _repeat(array, times: int, place: int):
    shape = array.shape
    wide = jnp.expand_dims(array, place + 1)
    wide = jnp.broadcast_to(wide, (*shape[: place + 1], times, *shape[place + 1 :]))
    return wide.reshape(*shape[:place], shape[place] * times, *shape[place + 1 :])


def _coordinates(how: str, size: int, length: int, factor: float) -> np.ndarray:
    """Where the new places lie among the old ones."""
    new = np.arange(length, dtype=np.float64)
    if how == "asymmetric":
        return new / factor
    if how == "align_corners":
        return new * (size - 1) / (length - 1) if length > 1 else np.zeros(1)
    if how == "pytorch_half_pixel" and length == 1:
        return np.zeros(1)
    if how == "tf_half_pixel_for_nn":
        return (new + 0.5) / factor
    if how == "half_pixel_symmetric":
        adjust = length / (factor * size)
        return size / 2 * (1 - adjust) + (new + 0.5) / factor - 0.5
    return (new + 0.5) / factor - 0.5


_ROUNDINGS = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
}


def _linear(node, at: np.ndarray, size: int, factor: float) -> np.ndarray:
    """Weights ``[new, old]`` of the two neighbours; with antialias, of a wider tent."""
    wide = 1 / factor if node.attributes.get("antialias", 0) and factor < 1 else 1.0
    reach = int(np.ceil(wide))
    return _weights(
        node, at, size, range(1 - reach, reach + 1), lambda d: np.maximum(1 - np.abs(d / wide), 0)
    )


def _cubic(node, at: np.ndarray, size: int, factor: float) -> np.ndarray:
    """Keys, 'Cubic convolution interpolation', 1981."""
    a = node.attributes.get("cubic_coeff_a", -0.75)
    wide = 1 / factor if node.attributes.get("antialias", 0) and factor < 1 else 1.0
    reach = int(np.ceil(2 * wide))

    def weight(d: np.ndarray) -> np.ndarray:
        d = np.abs(d / wide)
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0))

    return _weights(node, at, size, range(1 - reach, reach + 1), weight)


def _weights(node, at: np.ndarray, size: int, offsets, weight) -> np.ndarray:
    base = np.floor(at)
    places = base[:, None] + np.array(list(offsets))
    values = weight(at[:, None] - places)
    if node.attributes.get("exclude_outside", 0):
        values = np.where((places < 0) | (places >= size), 0, values)
    values = values / values.sum(1, keepdims=True)
    places = np.clip(places, 0, size - 1).astype(int)
    matrix = np.zeros((len(at), size))
    np.add.at(matrix, (np.arange(len(at))[:, None], places), values)
    return matrix.astype(np.float32)


_WEIGHTS = {"linear": _linear, "cubic": _cubic}

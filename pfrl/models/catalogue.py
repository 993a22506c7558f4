"""Networks by name, their weights from files, and the weights that come with the package."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from pfrl.graph.source import Variables, from_nnx, is_floating, update_nnx
from pfrl.models.elsewhere import advice
from pfrl.models.weights import read_weights
from pfrl.models.zoo import (
    convnext,
    densenet,
    efficientnet,
    googlenet,
    imagenet_resnet,
    lenet,
    mixer,
    mobilenet,
    mobilenet_v3,
    pose,
    resnet,
    shufflenet,
    squeezenet,
    unet,
    vgg,
    vit,
)
from pfrl.models.zoo.layers import Factory
from pfrl.registry import unknown

ImageShape = tuple[int, int, int]
"""``(H, W, C)``."""

PRETRAINED = Path(__file__).parent / "pretrained"


class ModelError(ValueError):
    """No such network, or weights that do not fit it; the message says what to do."""


MODELS: dict[str, Factory] = {
    **lenet.MODELS,
    **resnet.MODELS,
    **vgg.MODELS,
    **imagenet_resnet.MODELS,
    **mobilenet.MODELS,
    **mobilenet_v3.MODELS,
    **squeezenet.MODELS,
    **googlenet.MODELS,
    **efficientnet.MODELS,
    **densenet.MODELS,
    **shufflenet.MODELS,
    **convnext.MODELS,
    **vit.MODELS,
    **mixer.MODELS,
}
"""Classifiers by name: images ``[N, H, W, C]`` to logits ``[N, K]``."""

DENSE_MODELS: dict[str, Factory] = {**unet.MODELS, **pose.MODELS}
"""Networks by name that answer for every place: to maps ``[N, H', W', K]``."""


def build(name: str, num_classes: int, image_shape: ImageShape, seed: int | nnx.Rngs) -> nnx.Module:
    """A freshly initialised network: images ``[N, *image_shape]`` to logits ``[N, num_classes]``.

    Those of ``DENSE_MODELS`` give maps ``[N, H', W', num_classes]``.

    Raises:
      ModelError: if the name is unknown or the network cannot take such images.
    """
    check_name(name)
    # The default generator costs a second of compilation for every shape of a kernel; this one not.
    if isinstance(seed, int):
        seed = nnx.Rngs(jax.random.key(seed, impl="rbg"))
    try:
        return (MODELS | DENSE_MODELS)[name](num_classes, image_shape, seed)
    except ValueError as error:
        raise ModelError(str(error)) from error


def check_name(name: str) -> None:
    """See to it that there is such a network.

    Raises:
      ModelError: if there is not.
    """
    known = MODELS | DENSE_MODELS
    if name in known:
        return
    if (how := advice(name)) is not None:
        raise ModelError(how)
    raise ModelError(unknown("model", name, list(known), "FILE.py:FUNCTION", "FILE.onnx"))


def check_answers(name: str, dense: bool) -> None:
    """See to it that a network answers as its task reads it: with maps (``dense``) or without.

    Raises:
      ModelError: if it does not.
    """
    fitting, others = (DENSE_MODELS, MODELS) if dense else (MODELS, DENSE_MODELS)
    if name in others:
        gives, wants = ("one answer an image", "maps") if dense else ("maps", "one answer an image")
        raise ModelError(
            f"'{name}' gives {gives}, and the data is for {wants}; expected one of"
            f" {', '.join(fitting)}"
        )


def pretrained_path(model_name: str, data_name: str) -> Path | None:
    """The weights of this network for this data set that come with the package, if any."""
    path = PRETRAINED / f"{model_name}_{data_name}.npz"
    return path if path.is_file() else None


def load_weights(model: nnx.Module, path: Path) -> tuple[nnx.Module, dict[str, Any]]:
    """A copy of ``model`` with the weights of a file, and the file's ``meta``.

    Kinds of files: see ``pfrl.models.weights.read_weights``. The names in the file are either our
    own (``layer1.0.conv1.kernel``, ``bn1.scale``, ``bn1.mean``) or PyTorch's
    (``layer1.0.conv1.weight``, ``bn1.weight``, ``bn1.running_mean``). In an ``.npz`` convolution
    kernels are ``[H, W, I, O]`` and dense ones ``[I, O]`` under either.

    Raises:
      FileError: if the file is missing or damaged.
      ModelError: if its arrays are not those of the network.
    """
    variables = from_nnx(model).variables
    arrays, meta = fitting_arrays(variables, path)
    return update_nnx(model, variables | arrays), meta


def fitting_arrays(
    variables: Variables, path: Path
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a file under the names of a network's variables, and the file's ``meta``.

    Args:
      variables: of the network; only their shapes and types count.
      path: see ``load_weights``.

    Raises:
      FileError, ModelError: as ``load_weights``.
    """
    arrays, meta = read_weights(path)
    # Keys and counts of random generators are no weights: the network keeps its own.
    floats = {name: value for name, value in variables.items() if is_floating(value)}
    expected = {name: tuple(value.shape) for name, value in floats.items()}
    arrays = {
        name: array
        for name, array in _own_names(arrays, expected).items()
        if name in floats or name not in variables
    }
    _check_names(path, arrays, expected)
    _check_arrays(path, arrays, expected)
    # The network's own precision: files may hold float16 or float64.
    return {name: array.astype(variables[name].dtype) for name, array in arrays.items()}, meta


_TORCH_LEAF = {
    "kernel": "weight",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}


def _own_names(
    arrays: Mapping[str, np.ndarray], expected: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """``arrays`` with PyTorch's names replaced by ours, wherever the network has the latter."""
    ours = {}
    for name in expected:
        parent, _, leaf = name.rpartition(".")
        ours[f"{parent}.{_TORCH_LEAF.get(leaf, leaf)}"] = name
    return {
        ours.get(name, name): array
        for name, array in arrays.items()
        # PyTorch counts the batches that a normalisation has seen; nothing here depends on it.
        if not name.endswith(".num_batches_tracked")
    }


def _check_names(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    missing, unknown = sorted(expected.keys() - found), sorted(found.keys() - expected)
    if missing or unknown:
        parts = []
        if missing:
            parts.append(f"{len(missing)} arrays are missing ({missing[0]}, ...)")
        if unknown:
            parts.append(f"{len(unknown)} belong to no layer ({unknown[0]}, ...)")
        raise ModelError(
            f"{path} is for another network: {' and '.join(parts)}; choose the model of the file"
        )


_ENDS = (
    ("linear.kernel", 1, "the network gives {} classes"),
    ("conv1.kernel", 2, "the network takes images of {} channels"),
)
"""Where a network meets the data: kernel, axis, and what its length is called."""


def _check_arrays(
    path: Path, found: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]
) -> None:
    for kernel, axis, what in _ENDS:
        wanted, got = expected.get(kernel, ()), found[kernel].shape if kernel in found else ()
        if len(got) == len(wanted) > axis and got[axis] != wanted[axis]:
            raise ModelError(
                f"{path} does not fit: {what.format(got[axis])}, the data has {wanted[axis]};"
                " choose other weights or other data"
            )
    for name, array in found.items():
        if array.shape != expected[name]:
            raise ModelError(
                f"{path} does not fit: {name} is {list(array.shape)}, expected"
                f" {list(expected[name])}; choose weights of the same network and image size"
            )
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ModelError(
                f"{path} does not fit: {name} holds {array.dtype} values that are not all finite"
                " floating-point numbers; make the file again"
            )

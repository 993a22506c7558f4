"""Which network is meant, as one value: a name of the zoo, a user's function, or an ONNX file.

A user's function takes nothing and returns ``(model, x, ...)``: an ``nnx.Module``, or the pair
``(module, variables)`` of a Linen module or of a function of its parameters, and example inputs.
The file may say besides how its network sees the data::

    MEAN, STD = (0.5,), (0.25,)   # of every channel, for pixels in [0, 1]
    CLASSES = ("cat", "dog")      # names of the outputs, in their order

An ONNX file that this project wrote says the same in its metadata.
"""

import contextlib
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.graph import Graph, Source, from_nnx, trace
from pfrl.graph.frontends import as_source
from pfrl.graph.source import SourceError
from pfrl.models.catalogue import (
    ImageShape,
    ModelError,
    build,
    check_answers,
    check_name,
    fitting_arrays,
    pretrained_path,
)
from pfrl.models.onnx.reader import OnnxError, read
from pfrl.models.onnx.source import examples, for_images, load
from pfrl.models.reference import Reference, call, parse, trace_module
from pfrl.user_code import as_main_folder, one_line, run_file

ONNX = ".onnx"
"""How the name of a file with a network ends."""


class View(NamedTuple):
    """How a network sees a data set; None is how the data set has it.

    Attributes:
      mean, std: of every channel, for pixels in [0, 1].
      classes: names of the outputs, in their order.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: tuple[str, ...] | None = None


class Network(NamedTuple):
    """A network by what it is called and where its trained arrays are. Plain data.

    Attributes:
      model: a name of the zoo, ``FILE.py:FUNCTION`` or ``FILE.onnx``.
      weights: as of ``pfrl.models.weights``; for a network of the user's that is trained its own
        file.
    """

    model: str
    weights: Path

    @classmethod
    def find(cls, model: str, data: str, weights: Path | None) -> "Network":
        """The network with the given weights, its own ones, or those that come with the package.

        Args:
          model: as of ``Network``.
          data: name of a data set, for which the package may have weights.
          weights: a file or folder, or None.

        Raises:
          ModelError: if there is no such network, or there are no weights.
        """
        if is_own(model):
            return cls(model, own_file(model) if weights is None else weights)
        check_name(model)
        found = weights or pretrained_path(model, data)
        if found is None:
            raise ModelError(
                f"no weights of {model} for {data} come with the package; train them"
                f" (pfrl pretrain --model {model} --data {data}) and give --weights"
            )
        return cls(model, found)

    def load(
        self,
        outputs: int,
        image_shape: ImageShape,
        dense: bool,
        batches: Callable[[View], Iterable[Any]] | None = None,
    ) -> tuple[Source, View]:
        """The trained network for images of a data set, and how it sees them.

        Args:
          outputs: classes, or maps, that the data set has; 0 if the network decides.
          image_shape: ``(H, W, C)``.
          dense: whether the task wants maps.
          batches: training images as the network sees them, if its file has to be completed by
            what it does on them.

        Raises:
          ModelError, FileError: if the network does not suit the data or its weights do not fit.
          UserCodeError: if the user's file fails or gives no network.
        """
        source, view = initial(self.model, outputs, image_shape, dense, 0, batches)
        if is_own(self.model) and self.weights.resolve() == own_file(self.model).resolve():
            _check_trained(self.model, source)
            _check_finite(self.model, source)
            return source, view
        arrays = fitting_arrays(source.variables, self.weights)[0]
        source = source._replace(variables={**source.variables, **arrays})
        _check_finite(str(self.weights), source)
        return source, view


def is_own(model: str) -> bool:
    """Whether a user's function or file is meant and no network of the zoo."""
    return ".py:" in model or model.endswith(".py") or _is_onnx(model)


def _is_onnx(model: str) -> bool:
    return model.lower().endswith(ONNX)


def own_file(model: str) -> Path:
    """The file of a network of the user's.

    Raises:
      ModuleError, OnnxError: if there is none.
    """
    if not _is_onnx(model):
        return parse(model).path
    path = Path(model).expanduser()
    if not path.is_file():
        raise OnnxError(f"no file {path}; expected an ONNX network")
    return path


def trace_own(model: str, image_shape: ImageShape | None = None) -> Graph:
    """The graph of a network of the user's at its own example inputs.

    Args:
      model: ``FILE.py:FUNCTION`` or ``FILE.onnx``.
      image_shape: ``(H, W, C)`` for an ONNX file that leaves sizes free; else usual ones are taken.

    Raises:
      ModuleError, OnnxError: if it is none, or fails.
    """
    if not _is_onnx(model):
        return trace_module(model)
    file = read(own_file(model))
    if image_shape is not None:
        x = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
        return trace(for_images(file, image_shape), x)
    source = load(file, (), turned=False)
    return trace(source, *(jax.ShapeDtypeStruct((2, *x.shape), x.dtype) for x in examples(file)))


def initial(
    model: str,
    outputs: int,
    image_shape: ImageShape,
    dense: bool,
    seed: Any,
    batches: Callable[[View], Iterable[Any]] | None = None,
) -> tuple[Source, View]:
    """A network as it is before its weights are read, and how it sees the data.

    Args:
      model: a name of the zoo, ``FILE.py:FUNCTION``, whose arrays are those that it returns, or
        ``FILE.onnx``, whose arrays are in it.
      outputs, image_shape, dense, batches: as of ``Network.load``.
      seed: of the initial weights; an int or ``nnx.Rngs``.

    Raises:
      ModelError: if the network does not suit the data.
      UserCodeError, OnnxError: if the user's file fails or gives no network.
    """
    if not is_own(model):
        if not outputs:
            raise ModelError(no_classes(model))
        check_answers(model, dense)
        return from_nnx(build(model, outputs, image_shape, seed)), View()
    if _is_onnx(model):
        file = read(own_file(model))
        view = _file_view(file.metadata, outputs, image_shape)
        source = for_images(file, image_shape, batches and partial(batches, view))
        x = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        found = jax.eval_shape(lambda v, x: source.apply(v, x, False)[0], source.variables, x)
        width = _check_outputs(str(file.path), found, outputs, dense)
        return source, _file_view(file.metadata, width, image_shape)
    place = parse(model)
    module = run_file(place.path)
    with as_main_folder(place.path), contextlib.redirect_stdout(sys.stderr):
        network, variables, inputs = call(place, module)
        try:
            source = as_source(network, variables)
            x = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
            found = jax.eval_shape(lambda v, x: source.apply(v, x, False)[0], source.variables, x)
        except SourceError as error:
            raise ModelError(f"{place}: {one_line(error)}") from error
        except Exception as error:
            takes = ", ".join(str(list(each.shape[1:])) for each in inputs)
            raise ModelError(
                f"the network of {place} does not run on images of the data, {list(image_shape)}:"
                f" its example inputs are {takes} ({one_line(error)})"
            ) from error
    width = _check_outputs(str(place), found, outputs, dense)
    return source, _view(place, module, width, image_shape)


def no_classes(model: str) -> str:
    """Why a network of the zoo does not go with images without labels."""
    return (
        f"the data have no labels, and nothing says how many classes '{model}' is for; give a"
        " network of your own, FILE.onnx or FILE.py:FUNCTION"
    )


def _check_outputs(place: str, found: Any, outputs: int, dense: bool) -> int:
    """The width of the outputs, which are to be ``outputs`` wide, or of any width if that is 0;
    0 of several."""
    several = len(jax.tree.leaves(found))
    if not outputs and several > 1:
        return 0
    if not outputs and len(getattr(found, "shape", ())) > 1:
        return found.shape[-1]
    width = outputs or "K"
    wanted = f"[N, H, W, {width}]" if dense else f"[N, {width}]"
    shape = list(getattr(found, "shape", ()))
    if len(shape) != (4 if dense else 2) or shape[-1] != outputs:
        if several > 1:
            raise ModelError(
                f"the network of {place} gives {several} outputs, and labels say only what one of"
                f" them should be: give a network that gives {wanted} alone, or --data"
                " images:FOLDER, where all outputs are compared with the base network's"
            )
        got = f"[N, {', '.join(map(str, shape[1:]))}]" if shape else f"a {type(found).__name__}"
        raise ModelError(f"the network of {place} gives {got}, and the data is for {wanted}")
    return outputs


def _check_trained(model: str, source: Source) -> None:
    shapes = [n for n, v in source.variables.items() if isinstance(v, jax.ShapeDtypeStruct)]
    if shapes:
        raise ModelError(
            f"{model} returns a network of shapes without numbers ({shapes[0]}, ...); return a"
            " trained one, or give --weights"
        )


def _check_finite(place: str, source: Source) -> None:
    for name, value in source.variables.items():
        if jnp.issubdtype(value.dtype, jnp.inexact) and not np.isfinite(np.asarray(value)).all():
            raise ModelError(
                f"the array '{name}' of {place} has numbers that are not finite: its training"
                " diverged, or it is damaged; give other weights"
            )


def _view(place: Reference, module: ModuleType, outputs: int, image_shape: ImageShape) -> View:
    """``MEAN``, ``STD`` and ``CLASSES`` of a user's file."""
    lengths = {"MEAN": image_shape[-1], "STD": image_shape[-1], "CLASSES": outputs}
    found: dict[str, Any] = {}
    for name, length in lengths.items():
        value = getattr(module, name, None)
        if value is None or not length:
            continue
        kind = str if name == "CLASSES" else int | float
        good = isinstance(value, tuple | list) and all(isinstance(each, kind) for each in value)
        if not good or len(value) != length or (name == "STD" and min(value) <= 0):
            what = "names of the outputs" if name == "CLASSES" else "numbers, one a channel"
            raise ModelError(f"{name} of {place.path} is {value!r}; expected {length} {what}")
        found[name.lower()] = tuple(value)
    if ("mean" in found) != ("std" in found):
        raise ModelError(f"{place.path} has one of MEAN and STD; give both of them, or neither")
    return View(**found)


def _file_view(metadata: Mapping[str, str], outputs: int, image_shape: ImageShape) -> View:
    """What the metadata of a file say about its images, as far as it fits."""
    found: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        for name in ("mean", "std"):
            numbers = tuple(float(each) for each in metadata.get(name, "").split(","))
            if len(numbers) == image_shape[-1]:
                found[name] = numbers
    classes = tuple(each.strip() for each in metadata.get("classes", "").split(","))
    if len(classes) == outputs and all(classes):
        found["classes"] = classes
    return View(**found) if ("mean" in found) == ("std" in found) else View()

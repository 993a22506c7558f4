"""Which network is meant, as one value: a name of the zoo or a function in a user's file.

A user's function takes nothing and returns ``(model, x, ...)``: an ``nnx.Module``, or the pair
``(module, variables)`` of a Linen module or of a function of its parameters, and example inputs.
The file may say besides how its network sees the data::

    MEAN, STD = (0.5,), (0.25,)   # of every channel, for pixels in [0, 1]
    CLASSES = ("cat", "dog")      # names of the outputs, in their order
"""

import contextlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pfrl.graph import Source, from_nnx
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
from pfrl.models.reference import Reference, call, parse
from pfrl.user_code import as_main_folder, one_line, run_file


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
      model: a name of the zoo, or ``FILE.py:FUNCTION``.
      weights: an ``.npz``; for a function that returns a trained network its own file.
    """

    model: str
    weights: Path

    @classmethod
    def find(cls, model: str, data: str, weights: Path | None) -> "Network":
        """The network with the given weights, its own ones, or those that come with the package.

        Args:
          model: as of ``Network``.
          data: name of a data set, for which the package may have weights.
          weights: an ``.npz``, or None.

        Raises:
          ModelError: if there is no such network, or there are no weights.
        """
        if is_own(model):
            place = parse(model)
            return cls(model, place.path if weights is None else weights)
        check_name(model)
        found = weights or pretrained_path(model, data)
        if found is None:
            raise ModelError(
                f"no weights of {model} for {data} come with the package; train them"
                f" (pfrl pretrain --model {model} --data {data}) and give --weights"
            )
        return cls(model, found)

    def load(self, outputs: int, image_shape: ImageShape, dense: bool) -> tuple[Source, View]:
        """The trained network for images of a data set, and how it sees them.

        Args:
          outputs: classes, or maps, that the data set has.
          image_shape: ``(H, W, C)``.
          dense: whether the task wants maps.

        Raises:
          ModelError, FileError: if the network does not suit the data or its weights do not fit.
          UserCodeError: if the user's file fails or gives no network.
        """
        source, view = initial(self.model, outputs, image_shape, dense, seed=0)
        own = is_own(self.model) and self.weights.resolve() == parse(self.model).path.resolve()
        if own:
            _check_trained(self.model, source)
            return source, view
        arrays = fitting_arrays(source.variables, self.weights)[0]
        return source._replace(variables={**source.variables, **arrays}), view


def is_own(model: str) -> bool:
    """Whether a user's function is meant and no network of the zoo."""
    return ".py:" in model or model.endswith(".py")


def initial(
    model: str, outputs: int, image_shape: ImageShape, dense: bool, seed: Any
) -> tuple[Source, View]:
    """A network as it is before its weights are read, and how it sees the data.

    Args:
      model: a name of the zoo, or ``FILE.py:FUNCTION``, whose arrays are those that it returns.
      outputs, image_shape, dense: as of ``Network.load``.
      seed: of the initial weights; an int or ``nnx.Rngs``.

    Raises:
      ModelError: if the network does not suit the data.
      UserCodeError: if the user's file fails or gives no network.
    """
    if not is_own(model):
        check_answers(model, dense)
        return from_nnx(build(model, outputs, image_shape, seed)), View()
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
    _check_outputs(place, found, outputs, dense)
    return source, _view(place, module, outputs, image_shape)


def _check_outputs(place: Reference, found: Any, outputs: int, dense: bool) -> None:
    wanted = f"[N, H, W, {outputs}]" if dense else f"[N, {outputs}]"
    shape = list(getattr(found, "shape", ()))
    if len(shape) != (4 if dense else 2) or shape[-1] != outputs:
        got = f"[N, {', '.join(map(str, shape[1:]))}]" if shape else f"a {type(found).__name__}"
        raise ModelError(f"the network of {place} gives {got}, and the data is for {wanted}")


def _check_trained(model: str, source: Source) -> None:
    shapes = [n for n, v in source.variables.items() if isinstance(v, jax.ShapeDtypeStruct)]
    if shapes:
        raise ModelError(
            f"{model} returns a network of shapes without numbers ({shapes[0]}, ...); return a"
            " trained one, or give --weights"
        )


def _view(place: Reference, module: ModuleType, outputs: int, image_shape: ImageShape) -> View:
    """``MEAN``, ``STD`` and ``CLASSES`` of a user's file."""
    lengths = {"MEAN": image_shape[-1], "STD": image_shape[-1], "CLASSES": outputs}
    found: dict[str, Any] = {}
    for name, length in lengths.items():
        value = getattr(module, name, None)
        if value is None:
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

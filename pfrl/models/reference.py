"""A network of the user's own: a function in a Python file returns it with example inputs."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from flax import nnx

from pfrl.graph import Graph, GraphError, Source, trace
from pfrl.user_code import (
    UserCodeError,
    as_main_folder,
    is_users,
    line_of,
    one_line,
    raises,
    run_file,
)

EXPECTED = (
    "(model, x, ...): an nnx.Module, or the pair (module, variables) of a linen.Module or of a"
    " function of its parameters, and arrays or jax.ShapeDtypeStruct as its inputs"
)


class ModuleError(UserCodeError):
    """A file or function that gives no network; the message says what was found."""


class Reference(NamedTuple):
    """A function in a file, written ``FILE.py:FUNCTION``."""

    path: Path
    function: str

    def __str__(self) -> str:
        return f"{self.path}:{self.function}"


def trace_module(reference: str) -> Graph:
    """Call ``FILE.py:FUNCTION``, and trace the network that it returns.

    What the user's code prints goes to standard error: standard output is for
    the answer.

    Raises:
      ModuleError: if there is no such function, if it or the network fails, or
        if it returns something else.
    """
    place = parse(reference)
    module = run_file(place.path)
    with as_main_folder(place.path), contextlib.redirect_stdout(sys.stderr):
        model, variables, inputs = call(place, module)
        try:
            return trace(model, *inputs, variables=variables)
        except GraphError as error:
            raise ModuleError(f"{place}: {one_line(error)}{line_of(place.path, error)}") from error
        except Exception as error:
            if not is_users(place.path, error):
                raise
            raise ModuleError(f"the network of {place} {raises(place.path, error)}") from error


def parse(reference: str) -> Reference:
    """The file and the function of ``FILE.py:FUNCTION``.

    Raises:
      ModuleError: if it is no such thing, or there is no such file.
    """
    name, _, function = reference.rpartition(":")
    if not name or not function.isidentifier():
        raise ModuleError(f"expected --model FILE.py:FUNCTION, got '{reference}'")
    path = Path(name).expanduser()
    if not path.is_file():
        raise ModuleError(f"no file {path}; expected --model FILE.py:FUNCTION")
    return Reference(path, function)


def call(place: Reference, module: ModuleType) -> tuple[Any, Any, Sequence[Any]]:
    """``(model, variables or None, inputs)`` that a function in a user's file returns.

    Args:
      place: the function.
      module: its file, which was run.

    Raises:
      ModuleError: if there is no such function, it fails, or it returns something else.
    """
    return _checked(place, _called(place, module))


def _called(place: Reference, module: ModuleType) -> Any:
    function = getattr(module, place.function, None)
    if not callable(function):
        own = [
            name
            for name, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", "") == module.__name__
        ]
        raise ModuleError(
            f"{place.path} has no function '{place.function}'; it has {', '.join(own) or 'none'}"
        )
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise ModuleError(f"the function {place} {raises(place.path, error)}") from error


def _checked(place: Reference, result: Any) -> tuple[Any, Any, Sequence[Any]]:
    """``(model, variables or None, inputs)``."""
    if isinstance(result, Source) or not isinstance(result, tuple | list) or len(result) < 2:
        raise ModuleError(f"{place} returns a lone {type(result).__name__}; expected {EXPECTED}")
    model: Any = result[0]
    inputs: Sequence[Any] = result[1:]
    variables = None
    if not isinstance(model, nnx.Module | Source):
        if not isinstance(model, tuple | list) or len(model) != 2:
            got = type(model).__name__
            raise ModuleError(f"{place} returns '{got}' without variables; expected {EXPECTED}")
        model, variables = model
    for number, each in enumerate(inputs, 1):
        if not (hasattr(each, "shape") and hasattr(each, "dtype")):
            got = type(each).__name__
            raise ModuleError(f"input {number} of {place} is of type '{got}'; expected {EXPECTED}")
    if not inputs[0].shape:
        raise ModuleError(f"input 1 of {place} has no axes; its first is that of the examples")
    return model, variables, inputs

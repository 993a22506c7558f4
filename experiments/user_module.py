"""A network of the user's own: a function in a Python file returns it with example inputs."""

import contextlib
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from flax import nnx

import pfrl
from pfrl.graph import Graph, GraphError, Source

MODULE_NAME = "pfrl_user_module"
"""What the file is called while it runs: no name of a module that it might import."""
EXPECTED = (
    "(model, x, ...): an nnx.Module, or the pair (module, variables) of a linen.Module or of a"
    " function of its parameters, and arrays or jax.ShapeDtypeStruct as its inputs"
)
LONGEST_REASON = 300
PACKAGE = Path(pfrl.__file__).parent


class ModuleError(ValueError):
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
    place = _parse(reference)
    with _as_main_folder(place.path), contextlib.redirect_stdout(sys.stderr):
        module = _run_file(place)
        model, variables, inputs = _checked(place, _call(place, module))
        try:
            return pfrl.trace(model, *inputs, variables=variables)
        except GraphError as error:
            raise ModuleError(f"{place}: {_one_line(error)}{_line(place, error)}") from error
        except Exception as error:
            if not _is_users(place, error):
                raise
            raise ModuleError(f"the network of {place} {_raises(place, error)}") from error


def _parse(reference: str) -> Reference:
    name, _, function = reference.rpartition(":")
    if not name or not function.isidentifier():
        raise ModuleError(f"expected --module FILE.py:FUNCTION, got '{reference}'")
    path = Path(name).expanduser()
    if not path.is_file():
        raise ModuleError(f"no file {path}; expected --module FILE.py:FUNCTION")
    return Reference(path, function)


@contextlib.contextmanager
def _as_main_folder(path: Path) -> Iterator[None]:
    """Files beside ``path`` can be imported, as they could if it were run as a script."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        sys.modules.pop(MODULE_NAME, None)


def _run_file(place: Reference) -> ModuleType:
    module = ModuleType(MODULE_NAME)
    module.__file__ = str(place.path)
    # Dataclasses and type hints look their module up by name.
    sys.modules[MODULE_NAME] = module
    try:
        exec(compile(place.path.read_bytes(), str(place.path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise ModuleError(f"the file {place.path} {_raises(place, error)}") from error
    return module


def _call(place: Reference, module: ModuleType) -> Any:
    function = getattr(module, place.function, None)
    if not callable(function):
        own = [
            name
            for name, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", "") == MODULE_NAME
        ]
        raise ModuleError(
            f"{place.path} has no function '{place.function}'; it has {', '.join(own) or 'none'}"
        )
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise ModuleError(f"the function {place} {_raises(place, error)}") from error


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


def _raises(place: Reference, error: BaseException) -> str:
    """``raises ValueError: ... (line 7)``."""
    reason = _one_line(error)
    told = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return f"raises {told}{_line(place, error)}"


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]} ..."


def _line(place: Reference, error: BaseException) -> str:
    """`` (line 7)`` of the user's file, where the error or its cause passed through it."""
    lines = [line for file, line in _frames(error) if file == place.path.resolve()]
    if isinstance(error, SyntaxError) and error.filename == str(place.path):
        return ""  # its text has the line
    return f" ({place.path.name}, line {lines[-1]})" if lines else ""


def _is_users(place: Reference, error: BaseException) -> bool:
    """Whether the innermost code that is the user's or ours is the user's."""
    folder = place.path.resolve().parent
    for file, _ in reversed(_frames(error)):
        if PACKAGE in file.parents:
            return False
        if folder in file.parents:
            return True
    return False


def _frames(error: BaseException) -> list[tuple[Path, int]]:
    """File and line of every frame that an error came through, its cause's behind its own."""
    frames: list[tuple[Path, int]] = []
    at: BaseException | None = error
    while at is not None:
        found = traceback.extract_tb(at.__traceback__)
        frames += [(Path(f.filename).resolve(), f.lineno or 0) for f in found]
        at = at.__cause__
    return frames

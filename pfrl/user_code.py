"""Files of users that are run: networks (``pfrl.models.reference``) and plugins."""

import contextlib
import hashlib
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

LONGEST_REASON = 300
PACKAGE = Path(__file__).resolve().parent


class UserCodeError(ValueError):
    """A user's file that is missing or fails; the message says what was found, and where."""


def run_file(path: Path) -> ModuleType:
    """Run a Python file as a module of its own; what it prints goes to standard error.

    The module has a name that follows from its path, so that what it defines can be pickled
    and found again in another process that has run the file.

    Raises:
      UserCodeError: if there is no such file, or it raises.
    """
    if not path.is_file():
        raise UserCodeError(f"no file {path}; expected a Python file")
    module = ModuleType(module_name(path))
    module.__file__ = str(path)
    # Dataclasses, type hints and pickles look their module up by name.
    sys.modules[module.__name__] = module
    with as_main_folder(path), contextlib.redirect_stdout(sys.stderr):
        try:
            exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
        except (Exception, SystemExit) as error:
            del sys.modules[module.__name__]
            raise UserCodeError(f"the file {path} {raises(path, error)}") from error
    return module


def module_name(path: Path) -> str:
    """What a user's file is called while it runs: no name of a module that it might import."""
    place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    return f"pfrl_user_{path.stem}_{place}"


@contextlib.contextmanager
def as_main_folder(path: Path) -> Iterator[None]:
    """Files beside ``path`` can be imported, as they could if it were run as a script."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def raises(path: Path, error: BaseException) -> str:
    """``raises ValueError: ... (file.py, line 7)``."""
    reason = one_line(error)
    told = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return f"raises {told}{line_of(path, error)}"


def one_line(error: BaseException) -> str:
    """The text of an error as one line, cut where it is long."""
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]} ..."


def line_of(path: Path, error: BaseException) -> str:
    """`` (file.py, line 7)``, where the error or its cause passed through the user's file."""
    lines = [line for file, line in _frames(error) if file == path.resolve()]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return ""  # its text has the line
    return f" ({path.name}, line {lines[-1]})" if lines else ""


def is_users(path: Path, error: BaseException) -> bool:
    """Whether the innermost code that is the user's or ours is the user's."""
    folder = path.resolve().parent
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

"""Compiled programs kept in a folder, so that the next process need not compile them again."""

import os
import sys
from importlib.metadata import version
from pathlib import Path

from pfrl.user_cache import drop_oldest, instructions, user_cache

LIMIT = 2 * 2**30
"""Bytes of compiled programs that are kept; those not used for longest go first."""
# JAX reads these when it is imported, in the processes that this one starts too. A program of any
# size and compile time is kept: a search has hundreds of small ones.
_SETTINGS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


class CacheError(ValueError):
    """The folder that was asked for cannot be written."""


def use_compilation_cache(folder: Path | None = None) -> Path | None:
    """Keep what this process and those that it starts compile, and use what is kept.

    A program is found by its code, its options and the version of XLA, so a folder may be
    shared by versions and by processes at the same time. Machine code of a CPU with other
    instructions would crash, so each set of instructions has a folder of its own. A damaged
    entry is compiled again. Compilations that were found in the cache count in
    ``pfrl.evaluation.compilations`` too.

    Args:
      folder: where to keep them; by default where ``JAX_COMPILATION_CACHE_DIR`` says, or ``xla``
        in the folder of ``user_cache``.

    Returns:
      The folder of this CPU; None if the default cannot be written, and nothing is kept then.

    Raises:
      CacheError: if ``folder`` cannot be written.
    """
    if folder is None and "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    root = user_cache() / "xla" if folder is None else folder
    own = root / f"{version('jaxlib')}-{instructions()}"
    try:
        own.mkdir(parents=True, exist_ok=True)
        drop_oldest(root, LIMIT)
    except OSError as error:
        if folder is None:
            return None
        raise CacheError(f"the compilation cache {folder} cannot be written: {error}") from None
    for name, value in {"jax_compilation_cache_dir": str(own), **_SETTINGS}.items():
        os.environ[name.upper()] = str(value)
        if "jax" in sys.modules:
            sys.modules["jax"].config.update(name, value)
    return own

"""The commit of the code that makes numbers."""

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def commit() -> str:
    """Of the checkout that this file is in, such as ``1a2b3c4d5e6f``, with ``+`` where tracked
    files are changed; elsewhere the version that is installed."""
    here = Path(__file__).resolve().parents[2]
    if (here / ".git").exists():
        try:
            words = ("git", "-C", str(here), "describe", "--always", "--abbrev=12",
                     "--exclude=*", "--dirty=+")  # fmt: skip
            found = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True)
            return found.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass  # no git here, or it refuses a folder of another owner
    try:
        return f"version {version('pocketflow-rl')}"
    except PackageNotFoundError:
        return "unknown"

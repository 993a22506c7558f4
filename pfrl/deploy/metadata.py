"""What a file carries along of its data: what is needed to feed it, and to name its answers."""

from importlib.metadata import version

from pfrl.data import Dataset


def metadata(dataset: Dataset) -> dict[str, str]:
    """Scaling and classes as strings, and what made the file."""
    return {
        "mean": ", ".join(map(str, dataset.mean)),
        "std": ", ".join(map(str, dataset.std)),
        "classes": ", ".join(dataset.classes),
        "made_by": f"pocketflow-rl {version('pocketflow-rl')}",
    }

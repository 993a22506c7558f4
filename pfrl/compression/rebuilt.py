"""What a compression chose beyond its policy, kept so that the trained network can be put together
again without data: which channels stayed, which weights are zero, the ranges of activations."""

from pathlib import Path

import numpy as np

from pfrl.compression.policy import Policy, PolicyError
from pfrl.compression.recipe import Recipe
from pfrl.compression.sliced import Compressed
from pfrl.files import FileError, load_arrays, save_arrays
from pfrl.graph import Graph, Variables
from pfrl.graph.masks import slice_variables

KEPT, ZEROS = "kept/", "zeros/"
"""How the names of the arrays begin: indices by group, and bool by kernel."""


def write_choices(small: Compressed, path: Path) -> Path:
    """Write what ``rebuild`` needs besides the graph and the trained arrays.

    Args:
      small: from ``compress``.
      path: of an ``.npz``.
    """
    arrays = {f"{KEPT}{name}": np.asarray(indices) for name, indices in small.kept.items()}
    arrays |= {f"{ZEROS}{name}": np.asarray(mask) for name, mask in small.weight_masks.items()}
    ranges = {name: [float(end) for end in ends] for name, ends in small.ranges.items()}
    meta = {"policy": small.policy.to_json(), "recipe": small.recipe.to_json(), "ranges": ranges}
    return save_arrays(path, arrays, meta)


def rebuild(path: Path, graph: Graph, variables: Variables) -> Compressed:
    """The compressed network as it was trained.

    Args:
      path: a file of ``write_choices``.
      graph: of the network that was compressed, with any weights.
      variables: the trained arrays.

    Raises:
      FileError: if the file is missing or damaged, or graph or arrays are of another network.
    """
    arrays, meta = load_arrays(path)
    parts = {
        begin: {n.removeprefix(begin): a for n, a in arrays.items() if n.startswith(begin)}
        for begin in (KEPT, ZEROS)
    }
    try:
        policy, recipe = Policy.from_json(meta["policy"]), Recipe.from_json(meta["recipe"])
        ranges = {name: (float(low), float(high)) for name, (low, high) in meta["ranges"].items()}
        kept = {name: parts[KEPT][name] for name in graph.groups}
        wanted = slice_variables(graph, graph.source.variables, kept)
        policy = policy.checked(graph)
    except (KeyError, IndexError, TypeError, ValueError, PolicyError) as error:
        raise FileError(
            f"{path} is damaged, or of another network than the one it is read for ({error})"
        ) from error
    for name, value in wanted.items():
        if name not in variables or np.shape(variables[name]) != np.shape(value):
            raise FileError(
                f"the trained array '{name}' is not there or not {list(np.shape(value))}, as"
                f" {path} has it; they are of different networks"
            )
    return Compressed(graph, policy, kept, variables, recipe, parts[ZEROS], ranges)

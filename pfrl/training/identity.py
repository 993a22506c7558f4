"""What a computation is, told by its program and its arrays: so that nothing stale is taken up."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.data import Batches, Dataset
from pfrl.data.streams import Undecoded
from pfrl.graph.source import Variables
from pfrl.user_cache import digest

READ_AT_ONCE = 64
"""Images that are in memory at the same time while all of a split are looked at."""
LOOKED_AT = 64
"""Training images by which those of two data sets are told apart."""


def facts_of_program(function: Callable[..., Any], *arguments: Any) -> dict[str, str]:
    """What a function of arrays computes, as plain data.

    Args:
      function: in JAX.
      arguments: trees of arrays, or of their shapes and types.
    """
    program = jax.make_jaxpr(function)(*arguments)
    return {
        # Where functions of this process lie in its memory says nothing.
        "program": re.sub(r" at 0x[0-9a-f]+", "", str(program)),
        "constants": digest(None, named(program.consts)),
    }


def beginning(apply: Callable[..., Any], variables: Variables, dataset: Dataset) -> str:
    """A digest of where a training begins: the network, its arrays and the training images.

    Of many images some are looked at, and all labels that are there: answers of a teacher are not.

    Args:
      apply: see ``pfrl.training.step.Apply``.
      variables: of the network.
      dataset: that it is trained on.
    """
    split = dataset.train
    index = np.linspace(0, len(split) - 1, min(len(split), LOOKED_AT)).astype(int)
    images = np.asarray(split.images[index])
    labels = split.labels if isinstance(split.labels, np.ndarray) else np.zeros(0)
    facts = [
        facts_of_program(lambda v, x: apply(v, x, True)[0], variables, dataset.normalize(images)),
        [len(split), dataset.mean, dataset.std, dataset.crop, dataset.flip],
    ]
    return digest(facts, named([variables, images, labels]))


def named(tree: Any) -> Iterator[tuple[str, np.ndarray]]:
    """The leaves of a tree of arrays with their places as names, one after the other."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        name = jax.tree_util.keystr(path)
        if isinstance(leaf, Batches):
            for number, batch in enumerate(leaf):
                yield from ((f"{name}[{number}]{part}", array) for part, array in named(batch))
        elif isinstance(leaf, Undecoded):
            for start in range(0, len(leaf), READ_AT_ONCE):
                yield f"{name}[{start}:]", np.asarray(leaf[start : start + READ_AT_ONCE])
        else:
            yield name, np.asarray(_numbers(leaf))


def _numbers(leaf: Any) -> Any:
    """A key of random numbers as what it is made of."""
    key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if key else leaf

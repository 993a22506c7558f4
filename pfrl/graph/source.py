"""A network as a pure function of a flat dictionary of arrays: traced, trained and saved so."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Variables = dict[str, Any]
"""Arrays by dotted path: ``{"layer1.0.conv1.kernel": [H, W, I, O], ...}``."""


class Source(NamedTuple):
    """A network as a function.

    Attributes:
      apply: ``apply(variables, x, train) -> (outputs, statistics)``; with
        ``train`` the statistics are the updated ones (batch normalisation),
        without it they come back as they went in.
      variables: parameters and statistics.
      trainable: names of the variables that gradients go to; the others are
        statistics.
    """

    apply: Callable[[Variables, jax.Array, bool], tuple[Any, Variables]]
    variables: Variables
    trainable: frozenset[str]


def from_nnx(model: nnx.Module) -> Source:
    """An ``nnx.Module`` as a ``Source``; the module itself is neither kept nor changed."""
    graphs = {}
    for train in (False, True):
        clone = nnx.clone(model)
        clone.train() if train else clone.eval()
        graphs[train], state = nnx.split(clone)
    flat = dict(nnx.to_flat_state(state))
    names = {path: ".".join(map(str, path)) for path in flat}
    trainable = frozenset(
        names[path] for path, leaf in flat.items() if issubclass(leaf.type, nnx.Param)
    )
    variables = {names[path]: leaf[...] for path, leaf in flat.items()}

    def apply(variables: Variables, x: jax.Array, train: bool) -> tuple[Any, Variables]:
        leaves = {
            path: leaf.replace(jnp.asarray(variables[names[path]])) for path, leaf in flat.items()
        }
        merged = nnx.merge(graphs[train], nnx.from_flat_state(leaves), copy=True)
        outputs = merged(x)
        after = dict(nnx.to_flat_state(nnx.state(merged)))
        statistics = {
            names[path]: leaf[...] for path, leaf in after.items() if names[path] not in trainable
        }
        return outputs, statistics

    return Source(apply, variables, trainable)


def split_variables(source: Source) -> tuple[Variables, Variables]:
    """``(parameters, statistics)`` of a source's variables."""
    parameters = {k: v for k, v in source.variables.items() if k in source.trainable}
    statistics = {k: v for k, v in source.variables.items() if k not in source.trainable}
    return parameters, statistics


def update_nnx(model: nnx.Module, variables: Variables) -> nnx.Module:
    """A copy of ``model`` with the arrays of ``variables`` (dotted names) in place."""
    graph, state = nnx.split(model)
    leaves = {
        path: leaf.replace(np.asarray(variables[".".join(map(str, path))]))
        for path, leaf in nnx.to_flat_state(state)
    }
    return nnx.merge(graph, nnx.from_flat_state(leaves), copy=True)

"""Networks of every kind as a ``Source``: Flax Linen, plain functions, and the one door to all."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import core, linen, nnx

from pfrl.graph.source import (
    Source,
    SourceError,
    Variables,
    as_inputs,
    check_names,
    from_nnx,
    is_floating,
    key_type,
    mode_arguments,
    named_arrays,
    unwrapped,
    wrapped,
)

EXPECTED = (
    "expected an nnx.Module, a linen.Module with its variables or a function with its parameters"
)


def as_source(model: Any, variables: Any = None) -> Source:
    """The ``Source`` of whatever is a network.

    Args:
      model: an ``nnx.Module``, a ``linen.Module``, a function of a parameter
        pytree and inputs, or a ``Source``.
      variables: what ``linen.Module.init`` returned, or the function's
        parameters; None for the other two, which have their own.

    Raises:
      SourceError: if ``model`` is none of these, or ``variables`` are missing.
    """
    kind = type(model).__name__
    if isinstance(model, type):
        raise SourceError(f"{EXPECTED}, got the class {model.__name__}: make an instance of it")
    if isinstance(model, Source | nnx.Module):
        if variables is not None:
            raise SourceError(f"a {kind} has its own variables; leave out variables=")
        return model if isinstance(model, Source) else from_nnx(model)
    if isinstance(model, linen.Module):
        if variables is None:
            raise SourceError(
                f"{EXPECTED}, got the linen.Module {kind} alone: give variables=, the dictionary"
                " that its init returned"
            )
        return from_linen(model, variables)
    if callable(model):
        if variables is None:
            name = getattr(model, "__name__", kind)
            raise SourceError(
                f"{EXPECTED}, got the function {name} alone: give variables=, the pytree of arrays"
                " that it takes before its inputs"
            )
        return from_function(model, variables)
    raise SourceError(f"{EXPECTED}, got {kind}")


def from_linen(
    module: linen.Module,
    variables: Mapping[str, Any],
    *,
    train: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    rngs: Sequence[str] = ("dropout",),
    seed: int = 0,
) -> Source:
    """A Flax Linen module as a ``Source``.

    Names are dotted paths, those of parameters without the collection:
    ``Dense_0.kernel``, ``batch_stats.BatchNorm_0.mean``. The random streams are
    statistics too, ``rngs.dropout.key`` and ``rngs.dropout.count``: every call in
    training draws from the key with the count folded in and hands back the next
    count, so that no two draw alike and a run can be repeated.

    Args:
      module: not bound to variables.
      variables: what ``module.init`` returned: ``{"params": ..., "batch_stats": ...}``.
      train: keyword arguments of ``__call__`` in training; by default those of
        ``MODE_KEYWORDS`` that its signature has.
      evaluation: likewise in evaluation.
      rngs: streams that the module draws from in training.
      seed: of those streams.

    Raises:
      SourceError: if ``variables`` are no such dictionary.
    """
    if not isinstance(variables, Mapping) or "params" not in variables:
        got = f"keys {sorted(map(str, variables))}" if isinstance(variables, Mapping) else ""
        raise SourceError(
            "expected the variables of a linen.Module with a collection 'params', as its init"
            f" returns them, got {got or type(variables).__name__}"
        )
    names, arrays, tree = _named_collections(variables)
    parameters = set(named_arrays(core.meta.unbox(variables["params"]))[0])
    mutable = [name for name in variables if name != "params"]
    streams = {name: (f"rngs.{name}.key", f"rngs.{name}.count") for name in rngs}
    key_types = dict(zip(names, map(key_type, arrays), strict=True))
    found = dict(zip(names, map(unwrapped, arrays), strict=True))
    trainable = frozenset(name for name in names if name in parameters and is_floating(found[name]))
    for number, (key, count) in enumerate(streams.values()):
        # Drawn with numpy: the same on every platform and whatever JAX's default generator is.
        found[key] = np.random.SeedSequence([seed, number]).generate_state(2)
        found[count] = np.zeros((), np.uint32)
    check_names([*names, *(name for pair in streams.values() for name in pair)])
    call = type(module).__call__
    modes = {
        True: dict(mode_arguments(call, True) if train is None else train),
        False: dict(mode_arguments(call, False) if evaluation is None else evaluation),
    }

    def apply(variables: Variables, x: Any, train: bool) -> tuple[Any, Variables]:
        leaves = [wrapped(variables[name], kind) for name, kind in key_types.items()]
        collections = jax.tree.unflatten(tree, leaves)
        statistics = {name: variables[name] for name in found if name not in trainable}
        if not train:
            return module.apply(collections, *as_inputs(x), **modes[False]), statistics
        keys = {}
        for stream, (key, count) in streams.items():
            base = jax.random.wrap_key_data(jnp.asarray(variables[key]), impl="threefry2x32")
            keys[stream] = jax.random.fold_in(base, variables[count])
            statistics[count] = variables[count] + np.uint32(1)
        outputs, updated = module.apply(
            collections, *as_inputs(x), rngs=keys, mutable=mutable, **modes[True]
        )
        names_after, arrays_after, _ = _named_collections(updated)
        after = dict(zip(names_after, map(unwrapped, arrays_after), strict=True))
        return outputs, {name: after.get(name, value) for name, value in statistics.items()}

    return Source(apply, found, trainable)


def _named_collections(variables: Any) -> tuple[list[str], list[Any], Any]:
    """As ``named_arrays``, parameters named without their collection."""
    names, arrays, tree = named_arrays(core.meta.unbox(dict(variables)))
    return [name.removeprefix("params.") for name in names], arrays, tree


def from_function(function: Callable, params: Any, *, has_train: bool | None = None) -> Source:
    """A function of a parameter pytree as a ``Source``.

    Names are the dotted paths of the pytree's leaves (``blocks.0.kernel``).
    Floating leaves are trainable; the others are statistics, and stay as they are.

    Args:
      function: ``function(params, *inputs)``, with the keyword ``train`` if
        ``has_train``.
      params: pytree of arrays.
      has_train: None means that the signature says it (see ``mode_arguments``).

    Raises:
      SourceError: if ``params`` holds something that is no array.
    """
    names, arrays, tree = named_arrays(params)
    # A lone array has no path.
    names = [name or "params" for name in names]
    check_names(names)
    key_types = dict(zip(names, map(key_type, arrays), strict=True))
    found = dict(zip(names, map(unwrapped, arrays), strict=True))
    trainable = frozenset(name for name, array in found.items() if is_floating(array))

    def mode(train: bool) -> dict[str, bool]:
        if has_train is None:
            return mode_arguments(function, train)
        return {"train": train} if has_train else {}

    def apply(variables: Variables, x: Any, train: bool) -> tuple[Any, Variables]:
        leaves = [wrapped(variables[name], kind) for name, kind in key_types.items()]
        outputs = function(jax.tree.unflatten(tree, leaves), *as_inputs(x), **mode(train))
        return outputs, {name: variables[name] for name in names if name not in trainable}

    return Source(apply, found, trainable)

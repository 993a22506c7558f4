"""A network as a pure function of a flat dictionary of arrays: traced, trained and saved so."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

Variables = dict[str, Any]
"""Arrays by dotted path: ``{"layer1.0.conv1.kernel": [H, W, I, O], ...}``."""


class SourceError(ValueError):
    """What was given is no network that can be taken apart; the message says what was expected."""


class Source(NamedTuple):
    """A network as a function.

    Attributes:
      apply: ``apply(variables, x, train) -> (outputs, statistics)``. ``x`` is one
        array or, for several inputs, a tuple of arrays; outputs are any pytree.
        With ``train`` the statistics are the updated ones (batch normalisation,
        dropout counts), without it they come back as they went in.
      variables: parameters and statistics, all of them numeric arrays; a random
        key is its ``uint32`` data.
      trainable: names of the variables that gradients go to; the others are
        statistics.
    """

    apply: Callable[[Variables, Any, bool], tuple[Any, Variables]]
    variables: Variables
    trainable: frozenset[str]


def split_variables(source: Source) -> tuple[Variables, Variables]:
    """``(parameters, statistics)`` of a source's variables."""
    parameters = {k: v for k, v in source.variables.items() if k in source.trainable}
    statistics = {k: v for k, v in source.variables.items() if k not in source.trainable}
    return parameters, statistics


def from_nnx(model: nnx.Module) -> Source:
    """An ``nnx.Module`` that can be called as a ``Source``; it is neither kept nor changed.

    Floating ``nnx.Param`` are trainable; everything else that is an array (batch
    statistics, random keys and counts, caches, plain attributes) is a statistic.
    A variable that is used at several places appears once, at the first.
    Training and evaluation are ``model.train()`` and ``model.eval()``, and the
    keyword of ``__call__`` that says so, if there is one (see ``mode_arguments``).
    What earlier calls have sown (``nnx.Intermediate``) is left out.

    Raises:
      SourceError: if there is no ``__call__``, or a variable holds something that
        is no array.
    """
    if not callable(model):
        raise SourceError(
            f"expected a network to call, got a {type(model).__name__}: it has no __call__"
        )
    clone = nnx.clone(model)
    nnx.pop(clone, nnx.Intermediate)
    modes = {train: mode_arguments(clone.__call__, train) for train in (False, True)}
    clone.eval()
    evaluating, state = nnx.split(clone)
    clone.train()
    training, _ = nnx.split(clone)
    slots = _slots(state)
    found = {name: array for slot in slots for name, array in slot.arrays}
    check_names([name for slot in slots for name, _ in slot.arrays])
    parameters = (slot for slot in slots if issubclass(slot.kind, nnx.Param))
    trainable = frozenset(
        name for slot in parameters for name, array in slot.arrays if is_floating(array)
    )
    changes = [any(name not in trainable for name, _ in slot.arrays) for slot in slots]
    key_types = {name: key_type(array) for name, array in found.items()}

    def apply(variables: Variables, x: Any, train: bool) -> tuple[Any, Variables]:
        before = {name: wrapped(variables[name], kind) for name, kind in key_types.items()}
        if not train:
            merged = nnx.merge(evaluating, [slot.fill(before) for slot in slots])
            outputs = merged(*as_inputs(x), **modes[False])
            return outputs, {name: variables[name] for name in found if name not in trainable}
        # Variables that are made here, within the present trace, may be written to.
        leaves = [slot.fill(before, new) for slot, new in zip(slots, changes, strict=True)]
        merged = nnx.merge(training, leaves)
        outputs = merged(*as_inputs(x), **modes[True])
        after = dict(
            pair
            for slot, changed in zip(slots, changes, strict=True)
            if changed
            for pair in slot.read(merged)
        )
        statistics = {
            # What nobody wrote to is handed back as it is, not unwrapped anew.
            name: variables[name] if after[name] is before[name] else unwrapped(after[name])
            for name in found
            if name not in trainable
        }
        return outputs, statistics

    return Source(apply, {name: unwrapped(array) for name, array in found.items()}, trainable)


def update_nnx(model: nnx.Module, variables: Variables) -> nnx.Module:
    """A copy of ``model`` with the arrays of ``variables`` (names as of ``from_nnx``) in place."""
    graph, state = nnx.split(model)
    leaves = []
    for slot in _slots(state):
        arrays = {name: wrapped(variables[name], key_type(array)) for name, array in slot.arrays}
        leaves.append(slot.fill(arrays, True))
    return nnx.merge(graph, leaves)


class _Slot(NamedTuple):
    """A leaf of a module's state: a variable, or an array that is a plain attribute.

    Attributes:
      path: where it is in the module.
      kind, metadata: of the variable; ``NoneType`` for a plain array.
      tree: of its value, most often a single array.
      arrays: name and value of every array in it.
    """

    path: tuple[Any, ...]
    kind: type
    metadata: dict[str, Any]
    tree: Any
    arrays: tuple[tuple[str, Any], ...]

    def fill(self, arrays: Mapping[str, Any], writable: bool = False) -> Any:
        """The value with other arrays, as a fresh variable if it is to be ``writable``."""
        value = jax.tree.unflatten(self.tree, [arrays[name] for name, _ in self.arrays])
        if not writable or not issubclass(self.kind, nnx.Variable):
            return value
        is_array = isinstance(value, jax.Array)
        kind = _assigned_whole(self.kind) if is_array else self.kind
        return kind.from_metadata(value, self.metadata)

    def read(self, module: Any) -> Iterable[tuple[str, Any]]:
        """Names and arrays of the value that a module has at this place now."""
        for key in self.path:
            inside = isinstance(module, Mapping | Sequence)
            module = module[key] if inside else getattr(module, str(key))
        value = module.get_raw_value() if isinstance(module, nnx.Variable) else module
        arrays, tree = jax.tree.flatten(value)
        if tree != self.tree:
            raise SourceError(
                f"variable '{'.'.join(map(str, self.path))}' is {tree} after a call in training and"
                f" was {self.tree} before; give it its final structure from the start"
            )
        return zip((name for name, _ in self.arrays), arrays, strict=True)


def _slots(state: Any) -> list[_Slot]:
    """Every leaf of a state, in the order in which ``nnx.merge`` takes a list of them."""
    slots = []
    for path, leaf in nnx.to_flat_state(state):
        kind, metadata, value = type(None), {}, leaf
        if isinstance(leaf, nnx.Variable):
            kind, metadata, value = leaf.type, leaf.get_metadata(), leaf.get_raw_value()
        if isinstance(value, jax.Ref):
            value, metadata = value[...], {**metadata, "ref": False}
        names, arrays, tree = named_arrays(value, ".".join(map(str, path)))
        slots.append(_Slot(path, kind, metadata, tree, tuple(zip(names, arrays, strict=True))))
    return slots


@functools.cache
def _assigned_whole(kind: type[nnx.Variable]) -> type[nnx.Variable]:
    """``kind``, for which ``variable[...] = array`` of the same shape and dtype simply replaces.

    Flax compares the shardings of both arrays first. Under a trace they have
    none, and the error that says so is written by walking all the program so
    far: in a deep network that takes longer than everything else.
    """

    def assign(self: Any, key: Any, value: Any) -> None:
        old = self.get_raw_value()
        arrays = isinstance(old, jax.Array) and isinstance(value, jax.Array)
        if arrays and key is ... and (old.shape, old.dtype) == (value.shape, value.dtype):
            self.set_value(value)
        else:
            kind.__setitem__(self, key, value)

    return type(kind.__name__, (kind,), {"__setitem__": assign, "__module__": kind.__module__})


def key_type(array: Any) -> Any:
    """The implementation of a typed random key; None for any other array, abstract or not."""
    kinds: list[Any] = [None]
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        # Seen through a trace an abstract array is as good as a real one.
        jax.eval_shape(lambda key: kinds.append(jax.random.key_impl(key)), array)
    return kinds[-1]


def wrapped(array: Any, kind: Any) -> jax.Array:
    """A variable as the network has it: a key of that ``kind`` if it is one."""
    array = array if isinstance(array, jax.Array) else jnp.asarray(array)
    return array if kind is None else jax.random.wrap_key_data(array, impl=kind)


def unwrapped(array: Any) -> Any:
    """A variable as we keep it: the ``uint32`` data of a key; arrays may be abstract."""
    if key_type(array) is None:
        return array
    if isinstance(array, jax.ShapeDtypeStruct):
        return jax.eval_shape(jax.random.key_data, array)
    return jax.random.key_data(array)


def as_inputs(x: Any) -> tuple[Any, ...]:
    """The positional inputs of a network: ``x`` itself, or what is in it if it is a tuple."""
    return x if isinstance(x, tuple) else (x,)


def is_floating(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating)


def named_arrays(tree: Any, prefix: str = "") -> tuple[list[str], list[Any], Any]:
    """Dotted names, arrays and structure of a pytree; Python's numbers become arrays.

    Raises:
      SourceError: if a leaf is neither an array nor a number.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    names, arrays = [], []
    for path, leaf in leaves:
        inner = jax.tree_util.keystr(path, simple=True, separator=".")
        name = ".".join(part for part in (prefix, inner) if part)
        if isinstance(leaf, bool | int | float | complex):
            leaf = jnp.asarray(leaf)
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            raise SourceError(
                f"variable '{name}' is a {type(leaf).__name__}; expected an array:"
                " keep what is no array out of the variables"
            )
        names.append(name)
        arrays.append(leaf)
    return names, arrays, structure


def check_names(names: Sequence[str]) -> None:
    """Refuse variables of which two have one dotted name.

    Raises:
      SourceError: if there are such.
    """
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise SourceError(
            f"two variables are called '{twice}'; rename one of them, without a dot in its name"
        )


MODE_KEYWORDS = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}
"""Keywords by which networks are told the mode, and their value in training."""


def mode_arguments(call: Callable, train: bool) -> dict[str, bool]:
    """What to call ``call`` with besides its inputs: its ``MODE_KEYWORDS``, set for the mode."""
    try:
        parameters = inspect.signature(call).parameters
    except ValueError:  # some builtins have none
        return {}
    return {name: MODE_KEYWORDS[name] is train for name in parameters if name in MODE_KEYWORDS}

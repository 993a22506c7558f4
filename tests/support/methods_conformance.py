"""The conformance table of all compression methods: a row a method, a column a network.

Every cell: the masked network's step and prediction jit, and compile once for all policies;
types, names and shapes stay; the policy's numbers are met exactly; masked equals sliced;
policy and recipe survive JSON. A registered method is a row by itself.
"""

import json
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from pfrl.compression.policy import Policy
from pfrl.compression.prepare import Prepared, Preparer
from pfrl.compression.recipe import Recipe
from pfrl.compression.rounding import slice_quantizers
from pfrl.compression.sliced import Compressed, assemble
from pfrl.cost import CostModel
from pfrl.deploy.packed.pack import pack
from pfrl.evaluation.compilations import compilations
from pfrl.graph import Graph
from pfrl.graph.masks import alive_elements, kept_places, slice_variables
from pfrl.methods.quantization.base import WEIGHT_QUANTIZERS
from pfrl.methods.quantization.uniform import FLOAT_BITS
from pfrl.methods.sparsity.base import SPARSIFIERS
from pfrl.training.optimizers import QUANTIZER
from tests.support.conformance import assert_close
from tests.support.methods_table import (
    ROWS,
    Row,
    batches,
    looked_up,
    masked,
    prepared_by,
    rounding,
    sliced_step,
    traced,
)

SEEDS = (0, 1, 2, 3)
"""Seeds of the policies; after the first one nothing compiles."""


def check(name: str, network: Any, folder: Any) -> None:
    """One cell; the steps are those of a search, in its order."""
    row = ROWS[name]
    graph, prepare = traced(network, row.low_rank), prepared_by(network, name)
    seen = looked_up(network, row)
    found, run = masked(network, rounding(row.recipe), row.low_rank)
    x, labels = batches(network, row.low_rank)[0]

    def evaluate(policy: Policy) -> tuple[Prepared, bool]:
        prepared = prepare(policy)
        knobs = found.knobs(policy, prepared, seen.ranges(policy))
        start = found.start(prepared, knobs)
        after = run(start, x, labels, knobs)
        assert_types(graph, prepared, start, after)
        assert_finite(after)
        assert_widths(policy, row.recipe, after["kernels"])
        return prepared, tells(after["evaluated"])

    policies = [row.policy(graph, seed).checked(graph) for seed in SEEDS]
    assert len({json.dumps(policy.to_json()) for policy in policies}) == len(SEEDS)
    found_first = evaluate(policies[0])
    before = compilations()
    evaluated = [found_first, *map(evaluate, policies[1:])]
    assert compilations() == before, "a policy compiled something"
    for policy, (prepared, _) in zip(policies, evaluated, strict=True):
        assert_met(graph, row, policy, prepared)

    # A few channels and weights at random may let no example through; one policy of them does.
    first = next(p for p, (_, telling) in zip(policies, evaluated, strict=True) if telling)
    prepared = evaluated[policies.index(first)][0]
    small = assemble(graph, first, prepared, row.recipe, seen.ranges(first))
    sizes = pack(small, folder / "small.packed")
    assert sizes.payload == CostModel(graph, recipe=row.recipe).of(first)["bytes"]
    assert_masked_equals_sliced(network, row, first, prepared)
    assert_survives_json(graph, row, network, first, prepared)


def tells(outputs: Any) -> bool:
    """Whether the outputs depend on the example, as those of a dead network do not."""
    outputs = np.asarray(outputs)
    return bool(np.ptp(outputs, axis=0).max() > 0.001 * np.abs(outputs).max())


def assert_types(graph: Graph, prepared: Prepared, start: Any, after: Any) -> None:
    """Arrays of full size keep names, shapes and types: prepared, and after a step."""

    def types(variables):
        return {name: (np.shape(v), np.asarray(v).dtype) for name, v in variables.items()}

    assert types(prepared.variables) == types(graph.source.variables)
    assert types({**after["parameters"], **after["statistics"]}) == types(start)
    own = {name for name in start if not name.startswith(QUANTIZER)}
    assert types({name: start[name] for name in own}) == types(graph.source.variables)
    kinds = {np.asarray(value).dtype for name, value in start.items() if name not in own}
    assert kinds <= {np.dtype("float32"), np.dtype("uint8")}
    assert after["evaluated"].dtype == after["trained"].dtype == np.float32


def assert_finite(after: Any) -> None:
    for value in jax.tree.leaves(after):
        if np.issubdtype(value.dtype, np.floating):
            assert np.isfinite(value).all()


def assert_widths(policy: Policy, recipe: Recipe, kernels: Any) -> None:
    """What layers use has no more values than their bits allow."""
    for layer, kernel in kernels.items():
        bits = policy.weight_bits[layer]
        if bits == FLOAT_BITS:
            continue
        if WEIGHT_QUANTIZERS[recipe.weights].steps is None:
            # The zeros of what is masked are no entries.
            assert len(np.setdiff1d(kernel, [0])) <= 2**bits
        else:
            channels = np.asarray(kernel).reshape(-1, kernel.shape[-1]).T
            # Steps times integers: the same integer gives the same float.
            assert max(len(np.unique(each)) for each in channels) <= 2**bits - 1


def assert_met(graph: Graph, row: Row, policy: Policy, prepared: Prepared) -> None:
    """Exactly so many channels and so many zeros as the policy says."""
    assert {n: len(kept) for n, kept in prepared.kept.items()} == policy.counts(graph)
    sparse = {n: share for n, share in policy.sparsity.items() if share}
    kernels = {layer.kernel: sparse[layer.name] for layer in graph.layers if layer.name in sparse}
    assert prepared.weight_masks.keys() == kernels.keys()
    places, sparsifier = kept_places(graph, prepared.kept), SPARSIFIERS[row.recipe.pattern]
    for name, alive in alive_elements(graph, prepared.kept, kernels).items():
        stays = prepared.weight_masks[name]
        assert not (stays & ~alive).any()
        np.testing.assert_array_equal(np.asarray(prepared.variables[name]) != 0, stays)
        part = stays[np.ix_(*places[name])]
        assert part.sum() == stays.sum() == sparsifier.stays(part.shape, kernels[name])
        if ":" in row.recipe.pattern:
            n, m = map(int, row.recipe.pattern.split(":"))
            assert_blocks(part, n, m)


def assert_blocks(stays: np.ndarray, n: int, m: int) -> None:
    """``n`` of every ``m`` consecutive inputs, of the last ones at most ``n``."""
    inputs = stays.shape[-2]
    for start in range(0, inputs, m):
        block = stays[..., start : start + m, :]
        assert (block.sum(axis=-2) == min(n, block.shape[-2])).all()


def assert_masked_equals_sliced(network: Any, row: Row, policy: Policy, prepared: Prepared) -> None:
    """Outputs in both modes, and all variables after a step of training."""
    with jax.enable_x64(row.precise):
        graph = traced(network, row.low_rank, row.precise)
        ranges = looked_up(network, row).ranges(policy)
        dtype = np.float64 if row.precise else np.float32
        x, labels = batches(network, row.low_rank)[0]
        x = x.astype(dtype)

        found, run = masked(network, rounding(row.recipe), row.low_rank, row.precise)
        variables = {n: _as(v, dtype) for n, v in prepared.variables.items()}
        prepared = prepared._replace(variables=variables)
        knobs = found.knobs(policy, prepared, ranges)
        whole = run(found.start(prepared, knobs), x, labels, knobs)

        small = assemble(graph, policy, prepared, row.recipe, ranges)
        part = sliced_step(small, x, labels)
    assert tells(whole["evaluated"]), "a dead network"
    assert_widths(policy, row.recipe, part["kernels"])
    for mode in ("evaluated", "trained", "loss"):
        assert_close(whole[mode], part[mode], mode)
    for what in ("statistics", "parameters"):
        # Of networks that round nothing, the sliced one has no quantizers.
        kept = sliced(graph, small, {n: whole[what][n] for n in part[what]}, variables)
        assert {n for n in whole[what] if n not in kept} <= {
            n for n in whole[what] if n.startswith(QUANTIZER) and not small.quantized
        }
        largest = max((np.abs(v).max() for v in part[what].values() if np.size(v)), default=0)
        for key, value in part[what].items():
            assert_close(kept[key], value, f"{what} of {key}", float(largest))


def _as(value: Any, dtype: Any) -> Any:
    value = np.asarray(value) if not isinstance(value, jax.Array) else value
    return np.asarray(value).astype(dtype) if value.dtype == np.float32 else value


def sliced(graph: Graph, small: Compressed, found: Any, variables: Any) -> dict[str, Any]:
    """Arrays of full size, those of quantizers among them, as the sliced network has them."""
    part = slice_variables(graph, {**variables, **found}, small.kept)
    part |= slice_quantizers(graph, small.recipe, found, small.kept)
    return {name: part.get(name, found[name]) for name in found}


def assert_survives_json(
    graph: Graph, row: Row, network: Any, policy: Policy, prepared: Prepared
) -> None:
    """Policy and recipe are the same again, and so is what is made of them."""
    recipe = Recipe.from_json(json.loads(json.dumps(row.recipe.to_json())))
    again = Policy.from_json(json.loads(json.dumps(policy.to_json())))
    assert (recipe, again) == (row.recipe, policy)
    found = Preparer(replace(looked_up(network, row), recipe=recipe))(again)
    for ours, theirs in zip(prepared, found, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])

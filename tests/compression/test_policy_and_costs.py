"""Policies as data, what they cost, and budgets as users write them."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfrl.compression.policy import Policy, PolicyError, round_count
from pfrl.compression.recipe import Recipe
from pfrl.cost import Budget, BudgetError, CostModel
from pfrl.cost.metrics import METRICS
from pfrl.cost.model import Assignment
from pfrl.graph import trace
from tests.support.tiny import Branches, Dense, Shared, TwoConvs, made, resnet8, shape

BITS = (2, 3, 4, 5, 6, 7, 8, 32)
SHARES = (0.0, 0.1, 0.5, 0.9)


@cache
def dense():
    return trace(made(Dense), shape(1, 3))


def test_a_policy_passes_through_json():
    policy = Policy({"a": 0.3}, {"a": 3, "b": 32}, {"a": 8, "b": 2}, 4, {"b": 0.75})
    assert Policy.from_json(json.loads(json.dumps(policy.to_json()))) == policy
    assert policy.to_json() == {
        "keep": {"a": 0.3},
        "weight_bits": {"a": 3, "b": 32},
        "act_bits": {"a": 8, "b": 2},
        "round_to": 4,
        "sparsity": {"b": 0.75},
    }


def test_a_policy_of_before_there_was_sparsity_is_dense():
    value = Policy({"a": 0.3}, {"a": 8}, {"a": 8}).to_json()
    del value["sparsity"]
    assert Policy.from_json(value).sparsity == {}


GOOD = {"keep": {"a": 0.5}, "weight_bits": {"a": 8, "b": 8}, "act_bits": {"a": 8, "b": 8}}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"keep": {"z": 0.5}}, "'keep' does not fit the network: 'z' is not in the network"),
        ({"keep": {}}, "'keep' does not fit the network: 'a' is missing"),
        ({"act_bits": {"a": 8}}, "'act_bits' does not fit the network: 'b' is missing"),
        ({"keep": {"a": 0}}, r"keep share of 'a' is 0; expected a number in \(0, 1\]"),
        ({"keep": {"a": 1.01}}, "keep share of 'a' is 1.01"),
        ({"keep": {"a": float("nan")}}, "keep share of 'a' is nan"),
        ({"weight_bits": {"a": 8, "b": 9}}, "'b' has 9 bits; expected 1 to 8, or 32 for float"),
        ({"act_bits": {"a": 1, "b": 8}}, "'a' has 1 bits; expected 2 to 8, or 32 for float"),
        ({"sparsity": {"z": 0.5}}, "'sparsity' does not fit the network: 'z' is not in"),
        ({"sparsity": {"a": 1}}, r"sparsity of 'a' is 1; expected a number in \[0, 1\)"),
        ({"round_to": 0}, "round_to is 0; expected a whole number from 1"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused(changed, message):
    assert Policy(**GOOD).checked(dense()) == Policy(**GOOD)
    with pytest.raises(PolicyError, match=message):
        Policy(**(GOOD | changed)).checked(dense())


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        GOOD,
        GOOD | {"round_to": 1, "rank": {}},
        GOOD | {"round_to": 1, "sparsity": None},
        GOOD | {"round_to": "4"},
        GOOD | {"round_to": 1, "keep": None},
        GOOD | {"round_to": 1, "keep": {"a": "half"}},
        GOOD | {"round_to": 1, "act_bits": ["a", "b"]},
    ],
)
def test_json_that_is_no_policy_is_refused(value):
    with pytest.raises(PolicyError, match="expected a policy with keep, weight_bits, act_bits"):
        Policy.from_json(value)


@pytest.mark.parametrize(
    ("count", "size", "round_to", "expected"),
    [
        (5.4, 16, 1, 5),
        (5.6, 16, 1, 6),
        (0.1, 16, 1, 1),
        (16.0, 16, 1, 16),
        (5.0, 16, 4, 4),
        (7.0, 16, 4, 8),
        (0.5, 16, 4, 4),
        (15.0, 16, 4, 16),
        # The multiple above is more than there is.
        (11.9, 12, 8, 8),
        (12.0, 12, 8, 12),
        (17.0, 18, 4, 16),
        # All of a group can be kept, though it is no multiple.
        (10.0, 10, 4, 10),
        (9.0, 10, 4, 8),
        (84.0, 84, 8, 84),
        # Small groups stay whole.
        (1.0, 6, 8, 6),
        (1.0, 4, 4, 4),
        (0.2, 1, 1, 1),
    ],
)
def test_channel_counts_are_rounded(count, size, round_to, expected):
    assert round_count(count, size, round_to) == expected


@given(st.floats(0.001, 1), st.floats(0.001, 1), st.integers(1, 70), st.integers(1, 16))
def test_more_share_never_means_fewer_channels(one, other, size, round_to):
    low, high = sorted([one, other])
    counts = [round_count(share * size, size, round_to) for share in (low, high)]
    assert 1 <= counts[0] <= counts[1] <= size
    assert round_count(size, size, round_to) == size
    # An assignment is written down as shares of its counts and read back.
    assert [round_count(n / size * size, size, round_to) for n in counts] == counts


def test_an_assignment_and_its_policy_are_the_same():
    graph = trace(made(TwoConvs), shape(1, 8, 8, 1))
    policy = Policy.uniform(graph, 0.4, weight_bits=5, act_bits=6, round_to=2)
    at = Assignment.of(policy, graph)
    assert at.counts == {"conv1": 4, "conv2": 4}
    assert Assignment.of(at.policy(graph), graph) == at
    other = at.copy()
    other.counts["conv1"] = other.weight_bits["linear"] = 2
    assert at == Assignment.of(policy, graph)


# Whole, in float32: kernels 3*4 and 4*2, biases 4 and 2.
# With 2 hidden channels, a at 3 weight and 4 activation bits, b at 8 and 5:
# kernels 3*2 = 6 and 2*2 = 4 elements, MACs as many;
# bytes: a min(ceil(18 / 8) = 3 plus 2 scales of 4, 24) = 11, b min(4 + 2*4, 16) = 12, biases 16;
# BOPs: 6 * 3*4 + 4 * 8*5.
def test_costs_of_a_dense_network():
    graph = dense()
    model = CostModel(graph)
    assert model.metrics == ("macs", "params", "bytes", "packed", "bops")
    assert model.base == {
        "macs": 20,
        "params": 26,
        "bytes": 4 * 26,
        "packed": 4 * 26,
        "bops": 20 * 32 * 32,
    }
    policy = Policy({"a": 0.5}, {"a": 3, "b": 8}, {"a": 4, "b": 5})
    assert model.of(policy) == {"macs": 10, "params": 14, "bytes": 39, "packed": 39, "bops": 232}
    # One hidden channel: a has 3 elements, b 2, with a scale for each of its two outputs: 2 bytes
    # and 8 of scales are more than 8 bytes in float32.
    policy = Policy({"a": 0.1}, {"a": 8, "b": 8}, {"a": 8, "b": 8})
    assert model.of(policy) == {
        "macs": 5,
        "params": 8,
        "bytes": 27,
        "packed": 7 + 8 + 12,
        "bops": 5 * 64,
    }


# conv1 9*1*8 over 8*8 places, conv2 9*8*8 over 4*4, linear 8*4; a normalisation of 8 channels has
# 16 parameters and 16 statistics, which are in the file too.
def test_costs_of_a_network_with_statistics():
    model = CostModel(trace(made(TwoConvs), shape(1, 8, 8, 1)))
    macs = 64 * 72 + 16 * 576 + 32
    params = 72 + 576 + 32 + 4 + 32
    assert model.base["macs"] == macs == 13_856
    assert model.base["params"] == params
    assert model.base["bytes"] == 4 * (params + 32)
    # 6 and 4 bits in conv2: 576 * 6 / 8 = 432 bytes and 8 scales.
    bits = {"conv1": 32, "conv2": 6, "linear": 32}
    policy = Policy({"conv1": 1, "conv2": 1}, bits, {**bits, "conv2": 4})
    found = model.of(policy)
    assert found["bytes"] == 4 * (params + 32) - 4 * 576 + 432 + 4 * 8
    assert found["bops"] == (64 * 72 + 32) * 1024 + 16 * 576 * 24


def test_a_shared_kernel_is_stored_once_at_its_largest_width():
    graph = trace(made(Shared), shape(1, 6, 6, 2))
    model = CostModel(graph)
    narrow = Policy.uniform(graph, weight_bits=2)
    whole = model.of(narrow)["bytes"]
    for name in ("shared", "shared#2"):
        wider = Policy(narrow.keep, {**narrow.weight_bits, name: 8}, narrow.act_bits)
        # 9*6*6 elements, six bits more.
        assert model.of(wider)["bytes"] == whole + 9 * 36 * 6 / 8


def test_latency_is_a_metric_where_there_is_a_model_of_it():
    model = CostModel(dense(), latency=lambda counts: 0.25 * counts["a"])
    assert model.base["latency"] == 1.0
    assert model.of(Policy.uniform(dense(), 0.5))["latency"] == 0.5


@cache
def costs(name):
    constructor, image = {
        "dense": (Dense, (3,)),
        "branches": (Branches, (6, 6, 2)),
        "shared": (Shared, (6, 6, 2)),
        "resnet8b": (lambda rngs: resnet8(rngs, "B"), (8, 8, 1)),
    }[name]
    return CostModel(trace(made(constructor), shape(1, *image)))


@pytest.mark.parametrize("name", ["dense", "branches", "shared", "resnet8b"])
@settings(max_examples=60)
@given(data=st.data())
def test_raising_a_knob_never_lowers_a_cost(name, data):
    model = costs(name)
    graph = model.graph
    layers = [layer.name for layer in graph.layers]
    own = {layer.kernel: layer.name for layer in reversed(graph.layers)}.values()  # the first ones
    at = Assignment(
        {g: data.draw(st.integers(1, group.size)) for g, group in graph.groups.items()},
        {layer: data.draw(st.sampled_from(BITS)) for layer in layers},
        {layer: data.draw(st.sampled_from(BITS)) for layer in layers},
        sparsity={layer: data.draw(st.sampled_from(SHARES)) for layer in own},
    )
    higher = at.copy()
    kind = data.draw(st.sampled_from(["counts", "weight_bits", "act_bits", "sparsity"]))
    knob = data.draw(st.sampled_from(sorted(getattr(at, kind))))
    values = getattr(higher, kind)
    if kind == "sparsity":
        values[knob] = data.draw(st.sampled_from([v for v in SHARES if v <= values[knob]]))
    else:
        choices = range(1, graph.groups[knob].size + 1) if kind == "counts" else BITS
        values[knob] = data.draw(st.sampled_from([v for v in choices if v >= values[knob]]))
    monotone = [name for name in METRICS if model.monotone(name, ("sparsity",))]
    assert monotone == ["macs", "params", "bytes", "packed", "bops"]
    for metric in monotone:
        assert model.cost(metric, higher) >= model.cost(metric, at) > 0


# conv2 at 2 bits, 576 weights: 144 bytes and 4 values. With 58 zeros: a bitmap of 72 bytes and
# 518 codes in 130, and the values.
def test_few_zeros_raise_the_bytes_of_a_codebook():
    model = CostModel(trace(made(TwoConvs), shape(1, 8, 8, 1)), recipe=Recipe(weights="codebook"))
    dense = Policy.uniform(model.graph, weight_bits=2)
    few = replace(dense, sparsity={"conv2": 0.1})
    assert model.of(few)["bytes"] - model.of(dense)["bytes"] == 72 + 130 - 144
    assert not model.monotone("bytes", ("sparsity",))
    assert model.monotone("bytes", ("keep",)) and model.monotone("macs", ("sparsity",))


@pytest.mark.parametrize(
    ("text", "metric", "value", "relative"),
    [
        ("macs=0.5", "macs", 0.5, True),
        (" macs=.5 ", "macs", 0.5, True),
        ("params=1", "params", 1.0, True),
        ("macs=20M", "macs", 20e6, False),
        ("bops=1.5G", "bops", 1.5e9, False),
        ("params=2e4", "params", 20_000.0, False),
        ("bytes=60kB", "bytes", 60_000.0, False),
        ("bytes=60KiB", "bytes", 61_440.0, False),
        ("bytes=0.5MB", "bytes", 500_000.0, False),
        ("bytes=900B", "bytes", 900.0, False),
        ("bytes=60k", "bytes", 60_000.0, False),
        ("latency=0.4ms", "latency", 0.4, False),
        ("latency=0.4", "latency", 0.4, True),
        ("latency=2", "latency", 2.0, False),
    ],
)
def test_budgets_are_read(text, metric, value, relative):
    budget = Budget.parse(text)
    assert (budget.metric, budget.relative) == (metric, relative)
    assert budget.value == pytest.approx(value)
    base = {metric: 8.0}
    assert budget.limit(base) == pytest.approx(8 * value if relative else value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read the target ''; expected metric=value"),
        ("macs", "cannot read the target 'macs'"),
        ("macs=", "cannot read"),
        ("macs=half", "cannot read"),
        ("macs=-0.5", "cannot read"),
        ("macs=1e-3", "cannot read"),
        ("macs=50%", "cannot read"),
        ("macs = 0.5", "cannot read"),
        (
            "flops=0.5",
            "unknown metric 'flops'; expected one of macs, params, bytes, packed, litert, bops,"
            " latency",
        ),
        ("macs=1.2.3", "'1.2.3' in the target 'macs=1.2.3' is no number"),
        ("macs=.", "is no number"),
        ("macs=0", "the target 'macs=0' must be above zero and finite"),
        ("macs=1e400", "must be above zero and finite"),
        ("macs=5ms", "'ms' is no unit of macs; expected none, or one of k, M, G"),
        ("latency=2MB", "'MB' is no unit of latency; expected none, or one of ms"),
        ("latency=2s", "'s' is no unit of latency"),
        (
            "bytes=60KB",
            "'KB' is no unit of bytes; expected none, or one of k, M, G, B, kB, MB, KiB, MiB",
        ),
    ],
)
def test_what_is_no_budget_is_refused(text, message):
    with pytest.raises(BudgetError, match=message):
        Budget.parse(text)


def test_a_budget_says_what_it_is():
    assert str(Budget.parse("macs=0.5")) == "macs at most 50% of the base network"
    assert str(Budget.parse("bytes=60kB")) == "bytes at most 60000"


def test_counts_follow_the_shares():
    graph = trace(made(resnet8), shape(1, 8, 8, 1))
    policy = Policy.uniform(graph, 0.5, round_to=4)
    # Groups of 4 stay whole; 8 and 16 are halved.
    assert {n: graph.groups[n].size for n in graph.groups} == dict(
        zip(graph.groups, (4, 4, 8, 4, 16, 8), strict=True)
    )
    assert list(policy.counts(graph).values()) == [4, 4, 4, 4, 8, 4]
    assert np.all(np.asarray(list(Policy.uniform(graph, 0.01).counts(graph).values())) == 1)

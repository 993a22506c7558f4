"""Torch-Pruning's DepGraph as a yardstick: what it can remove together, so can we."""

import copy
import functools
import importlib.util
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.coupling import Counterpart, Relation, find_counterparts, relate, untouched
from benchmarks.pytorch.models import ResNet50, ViTTiny

needs_torch_pruning = pytest.mark.skipif(
    importlib.util.find_spec("torch_pruning") is None,
    reason="torch-pruning is not installed: pip install -c constraints.txt -e '.[benchmarks]'",
)


def slots(array, *places):
    return frozenset((array, (0,), place) for place in places)


# Two heads of two places each: one of DepGraph's channels is a place in one head (1), of ours a
# head (0 1, 2 3) or a place in all (0 2, 1 3). "other" is a group of two single channels.
OURS = {
    "heads": [slots("q", 0, 1), slots("q", 2, 3)],
    "width": [slots("q", 0, 2), slots("q", 1, 3)],
    "key": [slots("k", 0), slots("k", 1)],
    "value": [slots("v", 0), slots("v", 1)],
}


@pytest.mark.parametrize(
    ("theirs", "relation"),
    [
        ([slots("q", 2, 3), slots("q", 0, 1)], Relation("equal", ("heads",))),
        (
            [slots("k", 0) | slots("v", 0), slots("k", 1) | slots("v", 1)],
            Relation("union", ("key", "value")),
        ),
        ([slots("q", i) for i in range(4)], Relation("contained", ("heads", "width"))),
        ([slots("k", 0), slots("k", 1) | slots("x", 0)], Relation("differs", ("key",))),
        ([slots("x", 0), slots("x", 1)], Relation("missing", ())),
    ],
)
def test_how_a_group_stands_to_ours(theirs, relation):
    assert relate(theirs, OURS) == relation


def test_groups_that_only_we_have():
    assert untouched(OURS, [[slots("q", 0), slots("k", 1)]]) == ["value"]


def test_arrays_of_torch_in_our_layout():
    theirs = {"a.weight": (6, 4), "a.bias": (6,), "n.weight": (4,), "n.running_var": (4,)}
    # Two heads of three, and a scale in place of the weight of a normalisation.
    ours = {"a.kernel": (4, 2, 3), "a.bias": (2, 3), "n.scale": (4,), "n.var": (4,)}
    found = find_counterparts(theirs, ours)
    assert found["a.weight"] == Counterpart("a.kernel", (4, 2, 3), ((1, 2), (0,)))
    assert found["a.bias"] == Counterpart("a.bias", (2, 3), ((0, 1),))
    assert [found[f"n.{leaf}"].name for leaf in ("weight", "running_var")] == ["n.scale", "n.var"]
    # Output 4 is place 1 of head 1.
    kernel = np.arange(24).reshape(6, 4)
    assert found["a.weight"].convert(kernel)[3, 1, 1] == kernel[4, 3]
    oihw = find_counterparts({"c.weight": (5, 2, 3, 3)}, {"c.kernel": (3, 3, 2, 5)})["c.weight"]
    image = np.arange(90).reshape(5, 2, 3, 3)
    assert oihw.convert(image)[2, 0, 1, 4] == image[4, 1, 2, 0]


@pytest.mark.parametrize(
    ("theirs", "ours", "lonely"),
    [
        ({"a.weight": (2, 2)}, {}, "a.weight"),
        ({"a.weight": (2, 2)}, {"a.kernel": (2, 3)}, "a.weight"),
        ({}, {"a.kernel": (2, 2)}, "a.kernel"),
    ],
)
def test_networks_that_are_no_twins(theirs, ours, lonely):
    with pytest.raises(ValueError, match=f"'{lonely}'.*compare twins"):
        find_counterparts(theirs, ours)


# torchvision's ResNet50_Weights and timm's deit_tiny_patch16_224, with 1000 classes.
@pytest.mark.parametrize(
    ("make", "count"),
    [
        (ResNet50, 25_557_032),
        (ViTTiny, 5_717_416),
        (functools.partial(ViTTiny, fused=True), 5_717_416),
    ],
)
def test_torch_networks_have_the_published_number_of_parameters(make, count):
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in make().parameters()) == count


@functools.cache
def pair_of(name):
    from benchmarks.depgraph import NETWORKS, make_pair

    return make_pair(NETWORKS[name])


@functools.cache
def pruned_of(name):
    from benchmarks.depgraph import compare_pruned

    return {row["what"]: row for row in compare_pruned(pair_of(name))}


# ResNet-50: the stem, a residual stream in each of 4 stages, 2 inside each of 16 blocks.
# ViT-tiny: the residual stream; in each of 12 blocks the perceptron and the attention. We have of
# the latter the heads and their width, where q, k and v are three layers twice: q and k need the
# same width, and v another if one likes.
@pytest.mark.slow
@needs_torch_pruning
@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [
        ("resnet50", 1 + 4 + 2 * 16, 37),
        ("vit_tiny", 1 + 2 * 12, 1 + 12 + 3 * 12),
        ("vit_tiny_fused", 1 + 2 * 12, 1 + 12 + 2 * 12),
    ],
)
def test_every_group_of_depgraph_is_ours(name, theirs, ours):
    from benchmarks.depgraph import compare_groups

    found = compare_groups(pair_of(name))
    assert (found["depgraph_groups"], found["our_groups"]) == (theirs, ours)
    assert found["only_ours"] == []
    rest = [row for row in found["groups"] if row["relation"] != "equal"]
    # A channel of one head cannot go alone (see below): ours are whole heads.
    assert all(".attn." in row["depgraph"] and row["relation"] == "contained" for row in rest)
    assert len(rest) == (0 if name == "resnet50" else 12)
    # Told the number of heads, DepGraph's pruner removes heads, or a place in all heads. With
    # three layers we can do that too, as two of our channels: of q and k, and of v.
    whole = "union" if name == "vit_tiny" else "equal"
    for row in found["with_number_of_heads"]:
        assert row["relation"] == ("equal" if "(heads)" in row["depgraph"] else whole), row
    assert len(found["with_number_of_heads"]) == 2 * len(rest)


@pytest.mark.slow
@needs_torch_pruning
@pytest.mark.parametrize("name", ["resnet50", "vit_tiny", "vit_tiny_fused"])
def test_taking_groups_apart_agrees_with_asking_for_one_channel(name):
    from benchmarks.torch_side import DepGraph

    pair = pair_of(name)
    depgraph = DepGraph(pair.model, pair.images, pair.counterparts)
    for root, channels in depgraph.groups().items():
        last = len(channels) - 1
        assert depgraph.units(root, [[0], [last]]) == [channels[0], channels[last]]


@pytest.mark.slow
@needs_torch_pruning
@pytest.mark.parametrize("name", ["resnet50", "vit_tiny", "vit_tiny_fused"])
def test_twins_give_the_same_logits(name):
    from benchmarks.depgraph import gap, our_logits, torch_logits

    pair = pair_of(name)
    ours = our_logits(pair.graph.source.apply, pair.variables, pair)
    assert gap(torch_logits(pair.model, pair), ours) < 1e-5


# ResNet-50 at 64 pixels: 333,664,256 MACs, of which the stem 32² · 64 · 3 · 7² = 9,633,792 and the
# classifier 20,480 halve, and the others (channels on both sides) become a quarter:
#   4,816,896 + 10,240 + 324,009,984 / 4 = 85,829,632.
# ViT-tiny, 65 tokens: 365,107,584, of which the patches 64 · 48 · 192 = 589,824, the classifier
# 1,920 and the attention's products 12 · 2 · 65² · 192 = 19,468,800 halve:
#   294,912 + 960 + 9,734,400 + 345,047,040 / 4 = 96,292,032.
# With one head in three left, on top: a block's products shrink from 811,200 to 270,400, and
# q, k, v, out from 4 · 65 · 96 · 96 = 2,396,160 to a third: 12 · (540,800 + 1,597,440) less.
HALF = {
    ("resnet50", "half the channels"): 85_829_632,
    ("vit_tiny", "half the channels, all heads"): 96_292_032,
    ("vit_tiny", "half the channels, as many heads"): 96_292_032 - 25_658_880,
    ("vit_tiny_fused", "half the channels, all heads"): 96_292_032,
    ("vit_tiny_fused", "half the channels, as many heads"): 96_292_032 - 25_658_880,
}


@pytest.mark.slow
@needs_torch_pruning
@pytest.mark.parametrize(("name", "what"), HALF)
def test_half_the_channels_cost_the_same_in_both(name, what):
    row = pruned_of(name)[what]
    assert row["depgraph"]["macs"] == row["ours"]["macs"] == HALF[name, what]
    assert row["depgraph"]["params"] == row["ours"]["params"]
    assert row["ours"]["masked_minus_pruned"] < 1e-5


@pytest.mark.slow
@needs_torch_pruning
@pytest.mark.parametrize("fused", [False, True])
def test_one_channel_of_one_head_cannot_go_alone(fused):
    """What DepGraph finds in attention is no group yet: its user must say how many heads."""
    import torch_pruning  # pyright: ignore[reportMissingImports]

    tp: Any = torch_pruning  # takes more than its annotations say
    model, x = ViTTiny(10, 32, 16, 1, fused), torch.zeros(1, 3, 32, 32)
    free = [(model.cls_token, 2), (model.pos_embed, 2)]
    graph = tp.DependencyGraph().build_dependency(model, x, unwrapped_parameters=free)
    layer = model.get_submodule("blocks.0.attn").projections[0]  # pyright: ignore[reportIndexIssue]
    graph.get_pruning_group(layer, tp.prune_linear_out_channels, [0]).prune()
    with pytest.raises(RuntimeError, match="shape"):
        model(x)


class OldDivisor(nn.Module):
    """A LayerNorm that still divides by the number of channels before some were removed."""

    def __init__(self, norm, channels):
        super().__init__()
        self.norm, self.channels = norm, channels

    def forward(self, x):
        mean = x.sum(-1, keepdim=True) / self.channels
        square = (x * x).sum(-1, keepdim=True) / self.channels
        x = (x - mean) / (square - mean * mean + self.norm.eps).sqrt()
        return x * self.norm.weight + self.norm.bias


@pytest.mark.slow
@needs_torch_pruning
def test_the_divisor_is_all_that_separates_depgraphs_pruned_vit_from_the_masked_one():
    from benchmarks.depgraph import gap, torch_logits
    from benchmarks.torch_side import prune

    pair = pair_of("vit_tiny")
    pruned = prune(pair.model, pair.images, 0.5, 0.0)
    masked = torch_logits(pruned.masked, pair)
    assert gap(masked, torch_logits(pruned.model, pair)) > 0.1
    repaired = copy.deepcopy(pruned.model)
    for name, module in list(repaired.named_modules()):
        if isinstance(module, nn.LayerNorm):
            parent, _, leaf = name.rpartition(".")
            setattr(repaired.get_submodule(parent), leaf, OldDivisor(module, 192))
    assert gap(masked, torch_logits(repaired, pair)) < 1e-5

"""Sites: where a quantized network rounds, worked out by hand and for every network of the zoo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pfrl.graph import SiteError, trace
from pfrl.models.zoo.layers import BatchNorm
from tests.support.conformance import random_source
from tests.support.narrow import CLASSIC, MODERN
from tests.support.tiny import made, shape


class Block(nnx.Module):
    """[N, 8, 8, 3] to logits [N, 5] over a residual sum, a max pool and a mean."""

    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 4, (3, 3), use_bias=False, rngs=rngs)
        self.bn1 = BatchNorm(4)
        self.conv = nnx.Conv(4, 4, (3, 3), use_bias=False, rngs=rngs)
        self.bn2 = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.fc = nnx.Linear(4, 5, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.relu6(self.bn1(self.stem(x)))
        x = nnx.relu(self.bn2(self.conv(x)) + x)
        x = nnx.max_pool(x, (2, 2), strides=(2, 2)).mean((1, 2))
        return self.fc(self.drop(x))


def test_a_residual_block_rounds_once_behind_every_sum():
    graph = trace(random_source(Block), shape(2, 8, 8, 3))
    found = [(site.name, site.readers, site.maker, site.parts, site.grid) for site in graph.sites]
    assert found == [
        ("stem", ("stem",), None, (), "stem"),
        # Behind the normalisation and the clip; the sum reads it too.
        ("conv", ("conv",), "stem", (), "conv"),
        # A normalisation without an activation, and the sum with one, which the pool reads.
        ("conv.output", (), "conv", (), "conv.output"),
        ("sum", (), None, ("conv.output", "conv"), "sum"),
        # The mean has a grid of its own; a dense layer's result is not rounded.
        ("fc", ("fc",), None, ("sum",), "fc"),
    ]
    counts = {name: 2 for name in graph.groups}
    assert [site.elements.at(counts) for site in graph.sites] == [192, 128, 128, 128, 2]


def test_a_sum_that_only_a_normalisation_reads_is_rounded_alike_in_both_modes():
    """As the last one of a ResNet with pre-activations, and RepViT's."""

    class Normalised(nnx.Module):
        def __init__(self, rngs):
            self.left = nnx.Conv(3, 4, (1, 1), rngs=rngs)
            self.right = nnx.Conv(3, 4, (3, 3), rngs=rngs)
            self.bn = BatchNorm(4)
            self.fc = nnx.Linear(4, 5, rngs=rngs)

        def __call__(self, x):
            return self.fc(nnx.relu(self.bn(self.left(x) + self.right(x))).mean((1, 2)))

    graph = trace(random_source(Normalised), shape(2, 8, 8, 3))
    (summed,) = [site for site in graph.sites if site.parts == ("left.output", "right.output")]
    for mode in (False, True):
        program = graph.program(shape(2, 8, 8, 3), mode)[0].program
        assert program.shapes[summed.values[mode]] == (2, 8, 8, 4)


def test_parts_of_a_concatenation_share_a_grid():
    def network(p, x):
        left, right = nnx.relu(x @ p["a"]), x @ p["b"]
        return jnp.concatenate([left, nnx.relu(right)], -1) @ p["c"]

    arrays = {"a": np.ones((3, 4)), "b": np.ones((3, 2)), "c": np.ones((6, 2))}
    arrays = {name: value.astype(np.float32) for name, value in arrays.items()}
    graph = trace(network, shape(2, 3), variables=arrays)
    found = [(site.name, site.readers, site.grid) for site in graph.sites]
    assert found == [("a", ("a", "b"), "a"), ("c", ("c",), "c"), ("b.output", (), "c")]


def test_what_is_used_twice_is_rounded_where_it_is_made():
    kernel = np.ones((3, 4), np.float32)

    def network(p, x):
        y = x @ p["a"]
        return (nnx.relu(y) + y) @ p["b"]

    graph = trace(network, shape(2, 3), variables={"a": kernel, "b": np.ones((4, 2), np.float32)})
    assert [(site.name, site.maker) for site in graph.sites] == [
        ("a", None),
        ("a.output", "a"),
        ("b", None),
    ]


def test_what_has_no_integer_operation_lies_between_two_sites():
    def network(p, x):
        return nnx.gelu(x @ p["a"]) @ p["b"]

    arrays = {"a": np.ones((3, 4), np.float32), "b": np.ones((4, 2), np.float32)}
    graph = trace(network, shape(2, 3), variables=arrays)
    assert [site.name for site in graph.sites] == ["a", "a.output", "b"]


def test_what_is_scaled_behind_a_clip_is_rounded_at_the_clip():
    def network(p, x):
        return (jnp.clip(x @ p["a"] + 3, 0, 6) / 6) @ p["b"]

    arrays = {"a": np.ones((3, 4), np.float32), "b": np.ones((4, 2), np.float32)}
    graph = trace(network, shape(2, 3), variables=arrays)
    (program, clipped) = graph.evaluation().program, graph.sites[1]
    assert (clipped.name, clipped.maker) == ("b", "a")
    made = program.made_by(clipped.values[False])
    assert made is not None and made.name in ("min", "clamp")


@pytest.mark.parametrize("name", CLASSIC | MODERN)
def test_every_layer_of_every_network_reads_one_site(name):
    """In training as in evaluation, else there would be an error."""
    constructor, image = (CLASSIC | MODERN)[name]
    graph = trace(random_source(constructor), shape(2, *image))
    readers = [layer for site in graph.sites for layer in site.readers]
    assert sorted(readers) == sorted(layer.name for layer in graph.layers)
    names = [site.name for site in graph.sites]
    assert len(set(names)) == len(names)
    for train in (False, True):
        program = graph.program(graph.inputs[0], train)[0].program
        for site in graph.sites:
            elements = np.prod(program.shapes[site.values[train]], dtype=int) // 2
            assert elements == site.elements.at(graph.full_counts())


def test_another_network_in_training_is_refused():
    class Fickle(nnx.Module):
        def __init__(self, rngs):
            self.a = nnx.Linear(3, 4, rngs=rngs)
            self.b = nnx.Linear(4, 2, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            x = self.a(x)
            return self.b(x if self.drop.deterministic else jnp.tanh(x))

    graph = trace(made(Fickle), shape(2, 3))
    with pytest.raises(SiteError, match="in training the network rounds at other places"):
        _ = graph.sites

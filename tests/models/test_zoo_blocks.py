"""The parts that convolutional networks of the zoo are made of, on values worked out by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pfrl.models.zoo import mobilenet, mobilenet_v3
from pfrl.models.zoo.imagenet_resnet import BasicBlock, Bottleneck
from pfrl.models.zoo.layers import conv, max_pool_ceil, scaled
from pfrl.models.zoo.mobilenet_v3 import SqueezeExcite
from pfrl.models.zoo.vgg import VGG, average_to
from tests.support.tiny import made, shape


@pytest.mark.parametrize(
    ("image_size", "features"),
    [
        ((224, 224), 25_088),
        ((256, 320), 25_088),
        ((96, 64), 3 * 2 * 512),
        ((33, 32), 2 * 512),
        ((8, 8), 512),
    ],
)
def test_vgg_classifier_sees_what_the_image_allows(image_size, features):
    model = nnx.eval_shape(lambda: VGG(10, 3, image_size, rngs=nnx.Rngs(0)))
    assert model.classifier[0].kernel.shape == (features, 4096)
    graph, state = nnx.split(model)
    logits = jax.eval_shape(lambda s, x: nnx.merge(graph, s)(x), state, shape(2, *image_size, 3))
    assert logits.shape == (2, 10)


def test_average_to():
    column = jnp.arange(6.0).reshape(1, 6, 1, 1)
    assert average_to(column, 6) is column
    # Windows of two, without overlap; windows of three, a step of one apart.
    assert average_to(column, 3).ravel().tolist() == [0.5, 2.5, 4.5]
    assert average_to(column, 4).ravel().tolist() == [1, 2, 3, 4]


def test_max_pool_reaches_over_the_edge():
    x = -jnp.asarray([[4.0, 3, 2, 1], [8, 7, 6, 5], [9, 9, 9, 9]])[None, ..., None]
    # Rows 0 to 2; columns 0 to 2 and 2 to 4, of which the last is not there.
    assert max_pool_ceil(x, 3).ravel().tolist() == [-2, -1]
    assert max_pool_ceil(x, 2)[0, ..., 0].tolist() == [[-3, -1], [-9, -9]]
    sides = {1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 3, 111: 55, 112: 56}
    for side, expected in sides.items():
        pooled = jax.eval_shape(lambda x: max_pool_ceil(x, 3), shape(1, side, side, 1))
        assert pooled.shape == (1, expected, expected, 1)


def test_scaled_numbers_of_channels():
    assert [scaled(c, 0.125) for c in (16, 12, 3)] == [2, 2, 1]  # 2, 1.5 and 0.375
    # 32 * 0.35 = 11.2: 8 would be less than 90 %. 24 * 0.75 = 18: 16 is 89 %. 64 * 0.6 = 38.4.
    assert [scaled(*pair, 8) for pair in ((32, 0.35), (24, 0.75), (64, 0.6), (3, 1))] == [
        16,
        24,
        40,
        8,
    ]


def test_depthwise_weights_start_with_the_variance_of_their_fan_out():
    """An input of a depthwise 3x3 convolution reaches 9 outputs: variance 2 / 9, of 4,608 draws."""
    kernel = conv(512, 512, 3, groups=512, rngs=nnx.Rngs(0)).kernel[...]
    assert np.var(kernel) == pytest.approx(2 / 9, rel=4 * math.sqrt(2 / 4_608))


def test_squeeze_and_excite():
    """Means 2 and -1; squeezed to 2 * 2 + 1 - 3 = 2 and -3, which ReLU stops; excited: -2 and 1.

    A hard sigmoid is ``min(max(x + 3, 0), 6) / 6``: 1/6 and 2/3.
    """
    model = made(lambda rngs: SqueezeExcite(2, 2, rngs=rngs))
    model.fc1.kernel[...] = jnp.asarray([[[[2.0, -2.0], [-1.0, -1.0]]]])
    model.fc1.bias[...] = jnp.asarray([-3.0, 0.0])
    model.fc2.kernel[...] = jnp.asarray([[[[-1.5, 0.5], [7.0, 7.0]]]])
    model.fc2.bias[...] = jnp.asarray([1.0, 0.0])
    x = jnp.asarray([[1.0, 0.0], [3.0, -2.0]]).reshape(1, 2, 1, 2)
    expected = np.asarray([1.0, 0.0, 3.0, -2.0]) * np.asarray([1 / 6, 2 / 3, 1 / 6, 2 / 3])
    np.testing.assert_allclose(nnx.jit(lambda m, x: m(x))(model, x).ravel(), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("constructor", "last", "activation"),
    [
        (lambda rngs: BasicBlock(8, 8, 1, rngs=rngs), "bn2", jax.nn.relu),
        (lambda rngs: Bottleneck(8, 2, 1, rngs=rngs), "bn3", jax.nn.relu),
        (
            lambda rngs: mobilenet.InvertedResidual(8, 8, 2, 1, 5, rngs=rngs),
            "conv.3",
            lambda x: x,
        ),
        (
            lambda rngs: mobilenet_v3.InvertedResidual(
                8, mobilenet_v3.SMALL[0]._replace(channels=8, stride=1), rngs=rngs
            ),
            "block.3.1",
            lambda x: x,
        ),
    ],
    ids=["basic", "bottleneck", "inverted", "inverted v3"],
)
def test_a_block_adds_its_input(constructor, last, activation):
    """With nothing from the branch, by a last normalisation of zeros, the input remains."""
    model = made(constructor)
    flat = dict(nnx.to_flat_state(nnx.state(model)))
    silenced = [
        (path, leaf.replace(jnp.zeros_like(leaf.get_value())))
        for path, leaf in flat.items()
        if ".".join(map(str, path)) in (f"{last}.scale", f"{last}.bias")
    ]
    assert len(silenced) == 2
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 8)), jnp.float32)
    before = nnx.jit(lambda m, x: m(x))(model, x)
    nnx.update(model, nnx.from_flat_state(silenced))
    after = nnx.jit(lambda m, x: m(x))(model, x)
    np.testing.assert_allclose(after, activation(x), rtol=1e-6)
    assert np.abs(before - after).max() > 0.1

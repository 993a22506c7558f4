"""Networks and data that compile in a second: what the tests of the compression floor share."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pfrl.data import Dataset, Split
from pfrl.graph import trace
from pfrl.methods.repair.batch_norm import find_momentum, reestimate
from pfrl.models.zoo.layers import BatchNorm
from pfrl.models.zoo.resnet import CifarResNet


def made(constructor, seed=0) -> Any:
    """``constructor(rngs)`` with random arrays, without its initialisers, which would compile."""
    graph, state = nnx.split(nnx.eval_shape(lambda: constructor(nnx.Rngs(0))))
    flat = {".".join(map(str, path)): (path, leaf) for path, leaf in nnx.to_flat_state(state)}
    arrays = randomised({name: leaf.get_value() for name, (_, leaf) in flat.items()}, seed)
    leaves = {path: leaf.replace(jnp.asarray(arrays[name])) for name, (path, leaf) in flat.items()}
    return nnx.merge(graph, nnx.from_flat_state(leaves))


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def resnet8(rngs, shortcut: str | None = "A"):
    """[N, 8, 8, 1] to 4 logits, with stages of 4, 8 and 16 channels."""
    return CifarResNet(8, 4, 1, width=4, shortcut=shortcut, rngs=rngs)


class Dense(nnx.Module):
    """[N, 3] to 2 logits over 4 hidden channels."""

    def __init__(self, rngs):
        self.a = nnx.Linear(3, 4, rngs=rngs)
        self.b = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.b(jax.nn.relu(self.a(x)))


class TwoConvs(nnx.Module):
    """[N, 8, 8, 1] to 4 logits: two convolutions with batch normalisation and a global mean."""

    def __init__(self, rngs, width=8):
        self.conv1 = nnx.Conv(1, width, (3, 3), use_bias=False, rngs=rngs)
        self.bn1 = BatchNorm(width)
        self.conv2 = nnx.Conv(width, width, (3, 3), strides=2, use_bias=False, rngs=rngs)
        self.bn2 = BatchNorm(width)
        self.linear = nnx.Linear(width, 4, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.relu(self.bn1(self.conv1(x)))
        x = jax.nn.relu(self.bn2(self.conv2(x)))
        return self.linear(x.mean(axis=(1, 2)))


class Branches(nnx.Module):
    """A network as a user writes it: two branches, concatenated, a 1x1 and a depthwise convolution.

    Flax's own layers, with biases; [N, 6, 6, 2] to 3 logits.
    """

    def __init__(self, rngs):
        self.left = nnx.Conv(2, 6, (3, 3), rngs=rngs)
        self.right = nnx.Conv(2, 4, (1, 1), rngs=rngs)
        self.mix = nnx.Conv(10, 8, (1, 1), rngs=rngs)
        self.bn = nnx.BatchNorm(8, use_running_average=False, rngs=rngs)
        self.depth = nnx.Conv(8, 8, (3, 3), feature_group_count=8, rngs=rngs)
        self.out = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        x = jnp.concatenate([jax.nn.relu(self.left(x)), jnp.tanh(self.right(x))], axis=-1)
        x = jax.nn.gelu(self.bn(self.mix(x)))
        return self.out(self.depth(x).mean(axis=(1, 2)))


class Shared(nnx.Module):
    """One convolution, with its bias, applied twice; [N, 6, 6, 2] to 3 logits."""

    def __init__(self, rngs):
        self.first = nnx.Conv(2, 6, (3, 3), rngs=rngs)
        self.shared = nnx.Conv(6, 6, (3, 3), rngs=rngs)
        self.out = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.relu(self.first(x))
        for _ in range(2):
            x = jax.nn.relu(self.shared(x))
        return self.out(x.mean(axis=(1, 2)))


class Through(nnx.Module):
    """Two convolutions with something between them."""

    def __init__(self, between, rngs):
        self.a = nnx.Conv(2, 6, (3, 3), rngs=rngs)
        self.b = nnx.Conv(6, 5, (3, 3), rngs=rngs)
        self.out = nnx.Linear(5, 3, rngs=rngs)
        self.between = between

    def __call__(self, x):
        x = jax.nn.relu(self.b(self.between(self.a(x))))
        return self.out(x.mean(axis=(1, 2)))


def randomised(variables, seed):
    """All arrays anew, so that no zero or one hides a mistake; variances are positive."""
    rng = np.random.default_rng(seed)
    result = {}
    for name, value in variables.items():
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            result[name] = jax.random.key(seed)
            continue
        if not np.issubdtype(value.dtype, np.floating):
            # Counts of random generators, and keys as numbers.
            result[name] = rng.integers(0, 9, value.shape).astype(value.dtype)
            continue
        fan_in = max(int(np.prod(value.shape[:-1])), 1)
        array = rng.normal(0, 1.5 / np.sqrt(fan_in) if value.ndim > 1 else 0.5, value.shape)
        if name.endswith(".scale"):
            array = 1 + array
        elif name.endswith(".var"):
            array = rng.uniform(0.5, 2.0, value.shape)
        result[name] = array.astype(np.float32)
    return result


def no_test_split():
    raise AssertionError("the test split was opened")


def stripes(train=96, search=330, crop=1):
    """Noisy stripes whose direction and width is the class; no image comes twice.

    [N, 8, 8, 1] and 4 classes; the test split is shut, and a crop is the only augmentation.
    """
    rng = np.random.default_rng(7)
    labels = np.arange(train + search) % 4
    place = np.indices((8, 8))
    patterns = [(place[c % 2] // (1 + c // 2)) % 2 for c in range(4)]
    images = 60 + 120 * np.asarray(patterns)[labels] + rng.integers(-50, 50, (len(labels), 8, 8))
    whole = Split(images[..., None].astype(np.uint8), labels.astype(np.int32))
    return Dataset(
        "stripes",
        whole.take(slice(train)),
        whole.take(slice(train, None)),
        no_test_split,
        ("a", "b", "c", "d"),
        (0.47,),
        (0.25,),
        crop=crop,
        flip=False,
    )


def at_home(graph, dataset):
    """The same network with the statistics of the data set's images: as if trained on them."""
    source = graph.source
    names = set(source.variables) - source.trainable
    updated = jax.jit(lambda variables, x: source.apply(variables, x, True)[1])
    inputs = [x for x, _ in dataset.training_batches(48, np.random.default_rng(7))]
    momentum = find_momentum(updated, source.variables, names, inputs[0])
    found = reestimate(updated, source.variables, momentum, inputs)
    return trace(source._replace(variables={**source.variables, **found}), *graph.inputs)

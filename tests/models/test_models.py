"""The networks of the zoo and the weights that go into them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pfrl.data import load
from pfrl.files import FileError, load_arrays, save_arrays
from pfrl.graph.source import from_nnx
from pfrl.models import catalogue as zoo
from pfrl.models.catalogue import MODELS, ModelError, build, load_weights, pretrained_path
from pfrl.models.zoo.layers import BatchNorm
from pfrl.models.zoo.lenet import LeNet5
from pfrl.models.zoo.resnet import PadShortcut

DIGITS = (8, 8, 1)
CIFAR = (32, 32, 3)


def parameter_count(name, num_classes, image_shape):
    abstract = nnx.eval_shape(lambda: build(name, num_classes, image_shape, 0))
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(abstract, nnx.Param)))


# Worked out by hand; a batch normalisation of C channels has 2C parameters, a 3x3 convolution 9IO.
# ResNet-20: stem 9*3*16 + 32 = 464; stage 1: 6 * (9*16*16 + 32) = 14,016;
#   stage 2: 9*16*32 + 5 * 9*32*32 + 6*64 = 51,072;
#   stage 3: 9*32*64 + 5 * 9*64*64 + 6*128 = 203,520; linear 64*10 + 10 = 650.
# ResNet-56: the stages have 18 convolutions: 42,048, 162,432 and 647,424. ResNet-8: 2 each:
#   4,672, 13,952 and 55,552.
# Option B: 16*32 + 64 = 576 and 32*64 + 128 = 2,176 more.
# LeNet-5 on 28x28x1: 25*6 + 6 = 156; 25*6*16 + 16 = 2,416; 400*120 + 120 = 48,120;
#   120*84 + 84 = 10,164; 84*10 + 10 = 850.
@pytest.mark.parametrize(
    ("name", "image_shape", "count"),
    [
        ("resnet20", CIFAR, 269_722),
        ("resnet20b", CIFAR, 269_722 + 2_752),
        ("plain20", CIFAR, 269_722),
        ("resnet56", CIFAR, 853_018),
        ("resnet56b", CIFAR, 853_018 + 2_752),
        ("resnet8", CIFAR, 75_290),
        ("resnet8b", CIFAR, 75_290 + 2_752),
        ("lenet5", (28, 28, 1), 61_706),
    ],
)
def test_parameter_counts_are_the_published_ones(name, image_shape, count):
    assert parameter_count(name, 10, image_shape) == count


# Families that have files of their own beside this one, and other depths of the one that is here.
OTHERS = [name for name in MODELS if name not in ("resnet8", "resnet8b", "resnet20", "plain20")]


@pytest.mark.parametrize(
    ("name", "image_shape"),
    [
        *(
            pytest.param(name, CIFAR, marks=pytest.mark.ci) if name in OTHERS else (name, CIFAR)
            for name in MODELS
        ),
        *(("lenet5", shape) for shape in (DIGITS, (28, 28, 1), (15, 21, 3))),
        *(("resnet8b", shape) for shape in (DIGITS, (28, 28, 1), (15, 21, 3))),
    ],
)
def test_logits_have_one_row_an_image_and_one_column_a_class(name, image_shape):
    def logits(x):
        return build(name, 7, image_shape, 0)(x)

    assert jax.eval_shape(logits, jnp.zeros((2, *image_shape))).shape == (2, 7)


def test_lenet_has_as_many_features_as_its_convolutions_leave():
    # 28: pooled 14, convolved 10, pooled 5. 32: 16, 12, 6. 8, padded: 4, 4, 2.
    for image_shape, features in [((28, 28, 1), 400), (CIFAR, 576), (DIGITS, 64)]:
        abstract = nnx.eval_shape(lambda shape=image_shape: LeNet5(10, shape, rngs=nnx.Rngs(0)))
        assert abstract.linear1.kernel.shape == (features, 120)


def test_a_seed_makes_one_network():
    one, same, other = (
        from_nnx(build("lenet5", 10, DIGITS, seed)).variables["conv1.kernel"] for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_network_that_is_not_there():
    with pytest.raises(ModelError, match=r"unknown model 'alexnet'; expected FILE\.py:FUNCTION"):
        build("alexnet", 10, CIFAR, 0)
    with pytest.raises(ModelError, match=r"images of 4x4 pixels or more, got 3x28"):
        build("lenet5", 10, (28, 3, 1), 0)


def test_shortcut_a_takes_every_second_pixel_and_pads_channels():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    y = PadShortcut(1, 4, 2)(x)  # three new channels: one before, two after
    assert np.array_equal(y[0, :, :, 1], [[0, 2], [8, 10]])
    assert np.array_equal(y[..., [0, 2, 3]], np.zeros((1, 2, 2, 3)))


def test_batch_norm_equals_the_formula_with_its_gradient():
    """Against arXiv 1502.03167, algorithm 1, differentiated by JAX itself."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(2, 3, (5, 2, 2, 3)), jnp.float32)
    weight = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    scale, bias = jnp.asarray([0.5, -1.0, 2.0]), jnp.asarray([0.0, 1.0, -3.0])

    def ours(x, scale, bias):
        layer = BatchNorm(3)
        layer.scale[...], layer.bias[...] = scale, bias
        y = layer(x)
        return (weight * y).sum(), (y, layer.mean[...], layer.var[...])

    def formula(x, scale, bias):
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        y = (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias
        return (weight * y).sum(), (y, 0.1 * mean, 0.9 + 0.1 * var)

    results = [
        jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2), has_aux=True))(x, scale, bias)
        for f in (ours, formula)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), *results)


def randomised(model, seed):
    """The variables of ``model``, all of them random: zeros and ones would hide a mix-up."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.uniform(0.5, 1.5, value.shape).astype(np.float32)
        for name, value in from_nnx(model).variables.items()
    }


def as_torch(name):
    """PyTorch's name of one of our variables."""
    for ours, theirs in [
        (".kernel", ".weight"),
        (".scale", ".weight"),
        (".mean", ".running_mean"),
        (".var", ".running_var"),
    ]:
        if name.endswith(ours):
            return name.removesuffix(ours) + theirs
    return name


@pytest.mark.parametrize("name", ["resnet8b", "lenet5"])
@pytest.mark.parametrize("style", ["own", "torch"])
def test_weights_come_back_from_a_file(name, style, tmp_path):
    model = build(name, 10, DIGITS, 0)
    before = randomised(model, 1)
    saved = before
    if style == "torch":
        saved = {as_torch(key): value.astype(np.float64) for key, value in before.items()}
        saved["bn1.num_batches_tracked"] = np.asarray(17)
        assert "conv1.weight" in saved
    save_arrays(tmp_path / "w.npz", saved, {"epochs": 3})

    loaded, meta = load_weights(model, tmp_path / "w.npz")

    after = from_nnx(loaded).variables
    assert meta == {"epochs": 3}
    assert after.keys() == before.keys()
    assert all(np.array_equal(after[key], before[key]) for key in before)
    assert all(value.dtype == np.float32 for value in after.values())
    # The network that was given stays as it was.
    assert not np.array_equal(from_nnx(model).variables["conv1.kernel"], before["conv1.kernel"])


@pytest.mark.parametrize(
    ("name", "num_classes", "image_shape", "sentence"),
    [
        ("resnet8", 43, DIGITS, "the network gives 10 classes, the data has 43"),
        ("resnet8", 10, CIFAR, "the network takes images of 1 channels, the data has 3"),
        ("resnet8b", 10, DIGITS, r"10 arrays are missing \(layer2.0.shortcut.bn.bias, ...\)"),
        ("lenet5", 10, DIGITS, r"are missing \(.*\) and \d+ belong to no layer \(bn1.bias, ...\)"),
    ],
)
def test_weights_that_do_not_fit_the_network(name, num_classes, image_shape, sentence, tmp_path):
    save_arrays(tmp_path / "w.npz", from_nnx(build("resnet8", 10, DIGITS, 0)).variables, {})
    with pytest.raises(ModelError, match=sentence):
        load_weights(build(name, num_classes, image_shape, 0), tmp_path / "w.npz")


def test_weights_for_other_images_or_with_bad_values(tmp_path):
    model = build("lenet5", 10, DIGITS, 0)
    path = tmp_path / "w.npz"
    save_arrays(path, randomised(build("lenet5", 10, (28, 28, 1), 0), 0), {})
    with pytest.raises(ModelError, match=r"linear1.kernel is \[400, 120\], expected \[64, 120\]"):
        load_weights(model, path)
    variables = randomised(model, 0)
    variables["conv2.bias"][3] = np.nan
    save_arrays(path, variables, {})
    with pytest.raises(ModelError, match=r"conv2.bias holds float32 values that are not all fin"):
        load_weights(model, path)
    with pytest.raises(FileError, match="no file"):
        load_weights(model, tmp_path / "missing.npz")


def test_weights_of_the_package_are_found_by_model_and_data(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "PRETRAINED", tmp_path)
    path = save_arrays(tmp_path / "lenet5_digits.npz", {}, {})
    assert pretrained_path("lenet5", "digits") == path
    assert pretrained_path("resnet8", "digits") is None
    assert pretrained_path("lenet5", "imagefolder:../lenet5_digits") is None


@pytest.mark.parametrize(
    ("name", "data", "image_shape"),
    [("resnet8", "digits", DIGITS), ("resnet20", "fashion_mnist", (28, 28, 1))],
)
def test_weights_of_the_package_fit(name, data, image_shape):
    path = pretrained_path(name, data)
    assert path is not None
    assert path.stat().st_size < 2 * 2**20
    load_weights(build(name, 10, image_shape, 0), path)


def test_public_weights_have_our_layout(shared):
    path = shared / "weights" / "resnet20_cifar10jpeg.npz"
    loaded, _ = load_weights(build("resnet20", 10, CIFAR, 0), path)
    variables, arrays = from_nnx(loaded).variables, load_arrays(path)[0]
    assert np.array_equal(variables["layer2.0.bn2.scale"], arrays["layer2.0.bn2.weight"])
    assert np.array_equal(variables["linear.kernel"], arrays["linear.weight"])


@pytest.mark.slow
def test_public_weights_have_their_published_accuracy(shared):
    """87.04 % on the 5,000 search images: paddings, shortcuts and scaling are those of training."""
    dataset = load(f"imagefolder:{shared / 'data' / 'cifar10_jpeg.zip'}")
    path = shared / "weights" / "resnet20_cifar10jpeg.npz"
    source = from_nnx(load_weights(build("resnet20", 10, CIFAR, 0), path)[0])
    predict = jax.jit(lambda x: source.apply(source.variables, x, False)[0].argmax(-1))
    parts = [dataset.search.take(slice(start, start + 500)) for start in range(0, 5_000, 500)]
    right = sum(int((predict(dataset.normalize(p.images)) == p.labels).sum()) for p in parts)
    assert abs(right - 4_352) <= 5

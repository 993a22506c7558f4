"""The train step and the training loop, against values worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pfrl.data import Split
from pfrl.files import load_arrays
from pfrl.training.fit import Diverged, FitConfig, accuracy, fit
from pfrl.training.step import (
    Distillation,
    TrainState,
    cross_entropy,
    distillation_loss,
    make_train_step,
    sgd,
)
from tests.tiny import stripes

DATA = stripes(train=64, search=8, crop=0)
TRAINABLE = frozenset({"kernel", "bias"})


def linear(variables, x, train):
    """Logits of the pixels, and a statistic: the running mean of the images' means."""
    flat = x.reshape(x.shape[0], -1)
    mean = variables["mean"]
    after = 0.9 * mean + 0.1 * flat.mean() if train else mean
    return flat @ variables["kernel"] + variables["bias"], {"mean": after}


def start():
    kernel = np.random.default_rng(0).normal(0, 0.1, (64, 4)).astype(np.float32)
    return {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(4), "mean": jnp.zeros(())}


# A batch of 8 makes 8 steps an epoch: 3.75 epochs are 30 steps.
CONFIG = FitConfig(epochs=3.75, batch=8, learning_rate=0.01, seed=5)


def trained(config=CONFIG, variables=None, **options):
    variables = start() if variables is None else variables
    return fit(linear, variables, TRAINABLE, DATA, config, **options)


def test_training_learns_and_leaves_its_input_alone():
    before = start()
    told = []
    after = trained(variables=before, progress=lambda *report: told.append(report))
    assert [report[:2] for report in told] == [(20, 30), (30, 30)]
    assert told[-1][2] < np.log(4)
    for name, value in start().items():
        assert np.array_equal(before[name], value)
        assert not np.array_equal(after[name], value)
    score = accuracy(lambda x: linear(after, x, False)[0], DATA, DATA.train)
    assert score > 0.9


class Interrupted(Exception):
    pass


def interrupt(step, steps, loss):
    raise Interrupted


# A checkpoint every 5 steps; at step 20 the process dies, before that step is written down: step 15
# is the last, in the middle of the second epoch.
def test_training_goes_on_from_a_checkpoint_to_the_same_result(tmp_path):
    whole = trained()
    path = tmp_path / "training.npz"
    with pytest.raises(Interrupted):
        trained(checkpoint=path, checkpoint_every=5, progress=interrupt)
    assert load_arrays(path)[1]["done"] == 15
    batches = []

    def teacher(x):
        batches.append(x)
        return jnp.zeros((len(x), 4))

    resumed = trained(
        checkpoint=path, checkpoint_every=5, teacher=teacher, distillation=Distillation(0.0)
    )
    assert len(batches) == 15
    assert set(resumed) == set(whole)
    assert all(np.array_equal(resumed[name], whole[name]) for name in whole)
    assert not path.exists()


def test_the_checkpoint_of_another_training_is_left_out(tmp_path):
    path = tmp_path / "training.npz"
    with pytest.raises(Interrupted):
        trained(checkpoint=path, checkpoint_every=5, progress=interrupt)
    other = FitConfig(epochs=3.75, batch=8, learning_rate=0.01, seed=6)
    expected = trained(other)
    found = trained(other, checkpoint=path)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    with pytest.raises(Interrupted):
        trained(checkpoint=path, checkpoint_every=5, progress=interrupt)
    # The same training of a network with other shapes.
    narrow = start() | {"mean": jnp.zeros(3)}
    found = trained(variables=narrow, checkpoint=path)
    assert found["mean"].shape == (3,)


def test_a_loss_that_is_no_number_stops_the_training():
    with pytest.raises(Diverged, match=r"the loss was (nan|inf) after 20 of 30 steps"):
        trained(FitConfig(epochs=3.75, batch=8, learning_rate=1e38))


# T = 2: softmax(2 ln 1 / 2, 2 ln 3 / 2) is (1/4, 3/4), the teacher (1/2, 1/2).
# KL = 1/2 ln(1/2 / 1/4) + 1/2 ln(1/2 / 3/4) = 1/2 ln(4/3); times T² = 4.
def test_distillation_loss_is_the_divergence_times_the_temperature_squared():
    logits = jnp.asarray([[0.0, 2 * np.log(3)]])
    uniform = jnp.zeros((1, 2))
    assert distillation_loss(logits, uniform, 2.0) == pytest.approx(2 * np.log(4 / 3), rel=1e-5)
    assert distillation_loss(logits, logits + 7, 2.0) == pytest.approx(0, abs=1e-6)
    # The mean over the batch: the second row agrees with its teacher.
    two = jnp.concatenate([logits, logits]), jnp.concatenate([uniform, logits])
    assert distillation_loss(*two, 2.0) == pytest.approx(np.log(4 / 3), rel=1e-5)


# Because of T², the gradient at T is about that at 1: for small logits both are (q - p) / K.
def test_temperature_leaves_the_size_of_the_gradient():
    gradient = jax.jit(jax.grad(distillation_loss))
    logits, teacher = jnp.asarray([[0.02, -0.01]]), jnp.asarray([[-0.03, 0.01]])
    once, softer = gradient(logits, teacher, 1.0), gradient(logits, teacher, 8.0)
    assert np.allclose(once, softer, rtol=1e-2)
    assert np.abs(once).min() > 0.01


def test_cross_entropy_is_in_nats_and_a_mean():
    logits = jnp.log(jnp.asarray([[0.25, 0.75], [0.5, 0.5]]))
    expected = -(np.log(0.75) + np.log(0.5)) / 2
    assert cross_entropy(logits, jnp.asarray([1, 0])) == pytest.approx(expected, rel=1e-6)


# One step from zeros: cross-entropy ln 2; the distillation of the test above with the teacher
# (1/4, 3/4) at T = 2 is 4 * (1/4 ln(1/2) + 3/4 ln(3/2)).
def test_a_step_weighs_labels_and_teacher():
    def apply(variables, x, train):
        return x @ variables["kernel"], {"count": variables["count"] + train}

    optimizer = sgd(0.1, 0.0)
    parameters = {"kernel": jnp.zeros((1, 2))}
    state = TrainState(parameters, {"count": jnp.zeros(())}, optimizer.init(parameters))
    x, labels, teacher = jnp.ones((1, 1)), jnp.asarray([0]), jnp.asarray([[0.0, 2 * np.log(3)]])
    soft = 4 * (0.25 * np.log(0.5) + 0.75 * np.log(1.5))
    step = jax.jit(make_train_step(apply, optimizer, Distillation(0.7, 2.0)))
    after, loss = step(state, x, labels, teacher)
    assert loss == pytest.approx(0.3 * np.log(2) + 0.7 * soft, rel=1e-5)
    assert after.statistics["count"] == 1
    # The gradient of the first logit is 0.3 * (1/2 - 1) + 0.7 * 4 * (1/2 - 1/4) / 2 = 0.2, and of
    # the second the opposite; Nesterov's first step is 1.9 times the learning rate.
    assert np.allclose(after.parameters["kernel"], [[-0.19 * 0.2, 0.19 * 0.2]], atol=1e-6)
    _, plain = jax.jit(make_train_step(apply, optimizer))(state, x, labels, None)
    assert plain == pytest.approx(np.log(2), rel=1e-6)


# Without a gradient, a kernel w shrinks by learning rate * decay * w, times 1 + 0.9 (Nesterov).
def test_weight_decay_is_for_kernels_only():
    ones = {"conv.kernel": jnp.ones((1, 1, 1, 1)), "kernel": jnp.ones((1, 1))}
    ones |= {"bias": jnp.ones(1), "scale": jnp.ones(1)}
    optimizer = sgd(0.1, 0.5)
    zeros = jax.tree.map(jnp.zeros_like, ones)
    updates, _ = optimizer.update(zeros, optimizer.init(ones), ones)
    found = jax.tree.map(lambda value: float(value.sum()), updates)
    expected = pytest.approx(-0.1 * 0.5 * 1.9)
    assert found == {"conv.kernel": expected, "kernel": expected, "bias": 0, "scale": 0}


# Seven images in batches of three: the last has one image and two of padding, which a network
# that always answers 0 would be right about, were they counted.
def test_accuracy_counts_real_images_only_and_pads_the_last_batch():
    part = Split(DATA.train.images[:7], np.asarray([0, 0, 1, 0, 1, 1, 0], np.int32))
    shapes = []

    def zero(x):
        shapes.append(x.shape)
        return np.eye(4)[np.zeros(len(x), int)]

    assert accuracy(zero, DATA, part, batch=3) == 4 / 7
    assert shapes == [(3, 8, 8, 1)] * 3
    assert accuracy(zero, DATA, part) == 4 / 7
    assert shapes[3:] == [(7, 8, 8, 1)]


def test_accuracy_sees_normalised_images():
    seen = []

    def logits(x):
        seen.append(x)
        return np.zeros((len(x), 4))

    accuracy(logits, DATA, DATA.search)
    assert np.array_equal(seen[0], DATA.normalize(DATA.search.images))

"""The train step and how it is driven, against values worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pfrl.cpu.backend import steps_per_call
from pfrl.evaluation.compilations import compilations
from pfrl.methods.sparsity.sparsify import magnitude_mask, zhu_gupta
from pfrl.tasks.losses import cross_entropy
from pfrl.training.optimizers import sgd
from pfrl.training.step import TrainState, drive, make_train_step


def test_cross_entropy_is_in_nats_and_a_mean():
    logits = jnp.log(jnp.asarray([[0.25, 0.75], [0.5, 0.5]]))
    expected = -(np.log(0.75) + np.log(0.5)) / 2
    assert cross_entropy(logits, jnp.asarray([1, 0])) == pytest.approx(expected, rel=1e-6)


# Three classes and ε = 0.1: the target of label 0 is (0.9 + 0.1/3, 0.1/3, 0.1/3); of the
# probabilities (1/2, 1/4, 1/4) the logarithms are -ln 2 and twice -2 ln 2.
def test_smoothed_labels_give_a_share_to_every_class():
    logits = jnp.log(jnp.asarray([[0.5, 0.25, 0.25]]))
    expected = (0.9 + 0.1 / 3 + 4 * 0.1 / 3) * np.log(2)
    assert cross_entropy(logits, jnp.asarray([0]), 0.1) == pytest.approx(expected, rel=1e-6)
    # Of label 1 it is 0.1/3 · ln 2 + (0.9 + 2 · 0.1/3) · 2 ln 2, and of both their mean.
    other = (0.1 / 3 + 2 * (0.9 + 0.2 / 3)) * np.log(2)
    both = cross_entropy(jnp.concatenate([logits, logits]), jnp.asarray([0, 1]), 0.1)
    assert both == pytest.approx((expected + other) / 2, rel=1e-6)


def dense(variables, x, train, *extras):
    """Two layers, [N, 3] to 2 logits, and a count of the calls in training."""
    hidden = jnp.tanh(x @ variables["a.kernel"] + variables["a.bias"])
    return hidden @ variables["b.kernel"], {"calls": variables["calls"] + train}


def start(optimizer):
    rng = np.random.default_rng(0)
    shapes = {"a.kernel": (3, 8), "a.bias": (8,), "b.kernel": (8, 2)}
    parameters = {k: jnp.asarray(rng.normal(size=v), jnp.float32) for k, v in shapes.items()}
    return TrainState(parameters, {"calls": jnp.zeros(())}, optimizer.init(parameters))


def batches(count):
    rng = np.random.default_rng(1)
    for _ in range(count):
        yield rng.normal(size=(6, 3)).astype(np.float32), rng.integers(0, 2, 6), None


# Zhu and Gupta's schedule from step 0 to 2 and half of 24 elements: after a step the share is
# 0.5 · (1 - 0.5³) = 7/16, which is 10.5 elements and rounded to the even 10; after two 12.
def test_gradual_pruning_by_the_traced_step_compiles_once():
    def project(parameters, step):
        mask = magnitude_mask(parameters["a.kernel"], zhu_gupta(step, 0, 2, 0.0, 0.5))
        return {**parameters, "a.kernel": parameters["a.kernel"] * mask}

    optimizer = sgd(0.1, 0.0)
    step = jax.jit(make_train_step(dense, optimizer, project=project))
    state, zeros, compiled = start(optimizer), [], []
    for batch in batches(4):
        state, _ = step(state, *batch)
        zeros.append(int((np.asarray(state.parameters["a.kernel"]) == 0).sum()))
        compiled.append(compilations())
    assert zeros == [10, 12, 12, 12]
    assert compiled == [compiled[0]] * 4


def test_a_policy_reaches_the_projection():
    def project(parameters, step, scale):
        return {name: value * scale for name, value in parameters.items()}

    optimizer = sgd(0.1, 0.0)
    step = jax.jit(make_train_step(dense, optimizer, project=project))
    state, _ = step(start(optimizer), *next(batches(1)), jnp.asarray(0.0))
    assert all(not np.any(value) for value in state.parameters.values())


def test_on_a_cpu_steps_are_driven_one_by_one_and_elsewhere_many():
    assert steps_per_call("cpu") == 1
    assert steps_per_call("gpu") == steps_per_call("tpu") == 20


# Seven steps in calls of three: 3, 3 and 1.
def test_a_scan_over_stacked_batches_takes_the_same_steps():
    def apply(variables, x, train, scale):
        return dense(variables, scale * x, train)

    optimizer = sgd(0.1, 0.01)
    step = make_train_step(apply, optimizer)
    one, many = (drive(step, n)(start(optimizer), batches(7), jnp.asarray(0.5)) for n in (1, 3))
    assert one[0].step == many[0].step == one[0].statistics["calls"] == 7
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_no_batch_is_no_step():
    optimizer = sgd(0.1, 0.0)
    before = start(optimizer)
    after, loss = drive(make_train_step(dense, optimizer), 1)(before, [])
    assert after is before
    assert loss == 0


# The state of an evaluation is started from again and again; that of a training is used up.
def test_a_state_is_used_up_only_if_it_is_donated():
    optimizer = sgd(0.1, 0.0)
    step = make_train_step(dense, optimizer)
    kept, given = start(optimizer), start(optimizer)
    drive(step, 1)(kept, batches(1))
    drive(step, 1, donate=True)(given, batches(1))
    assert not kept.parameters["a.kernel"].is_deleted()
    assert given.parameters["a.kernel"].is_deleted()

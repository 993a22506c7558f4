"""What a student learns from its teacher, against values worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pfrl.tasks.classification import distillation_loss
from pfrl.training.distillation import Distillation, distilled
from pfrl.training.optimizers import sgd
from pfrl.training.step import TrainState, make_train_step


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


# Outputs 1 and 4 against the teacher's 3 and 4: the mean of 4 and 0; and 0.75 * 5 + 0.25 * 2.
def test_outputs_that_are_no_logits_have_a_divergence_of_their_own():
    def squares(outputs, teacher, temperature):
        return jnp.square(outputs - teacher).mean()

    learning = Distillation(0.25, divergence=squares)
    found = distilled(jnp.asarray(5.0), jnp.asarray([1.0, 4]), jnp.asarray([3.0, 4]), learning)
    assert found == pytest.approx(4.25)

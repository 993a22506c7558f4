"""What a student learns from its teacher, against values worked out by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pfrl.compression.policy import Policy
from pfrl.compression.sliced import compress, run_graph
from pfrl.graph import trace
from pfrl.tasks.classification import distillation_loss
from pfrl.training.distillation import (
    Distillation,
    DistillationError,
    Observed,
    attention_loss,
    attention_map,
    distilled,
    observed,
    outputs_of,
)
from pfrl.training.fit import FitConfig, fit
from pfrl.training.optimizers import sgd
from pfrl.training.step import TrainState, make_train_step
from tests.support.tiny import TwoConvs, made, stripes


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


# Two positions with channels (1, √2) and (2, 0): energies 3 and 4, of length 5.
ACTIVATION = np.asarray([[[1, np.sqrt(2)], [2, 0]]], np.float32)


def test_attention_is_the_normalised_energy_of_every_position():
    np.testing.assert_allclose(attention_map(jnp.asarray(ACTIVATION)), [[0.6, 0.8]], rtol=1e-6)
    # In an image the positions are rows and columns; the scale is nothing, nor are empty channels.
    image = np.pad(7 * ACTIVATION.reshape(1, 2, 1, 2), ((0, 0), (0, 0), (0, 0), (0, 3)))
    np.testing.assert_allclose(attention_map(jnp.asarray(image)), [[0.6, 0.8]], rtol=1e-6)


# Against (1, 0) the squared differences are 0.16 and 0.64, on average 0.4; a second layer that
# agrees adds nothing, and a second example that agrees halves it.
def test_attention_loss_is_the_mean_squared_difference_summed_over_layers():
    student, teacher = jnp.asarray(ACTIVATION), jnp.asarray([[[5.0], [0.0]]])
    assert attention_loss({"a": student}, {"a": teacher}) == pytest.approx(0.4, rel=1e-5)
    pairs = {"a": student, "b": student}, {"a": teacher, "b": 3 * student}
    assert attention_loss(*pairs) == pytest.approx(0.4, rel=1e-5)
    two = jnp.concatenate([student, student])
    mean = attention_loss({"a": two}, {"a": two.at[0].set(jnp.asarray([[5.0, 0], [0, 0]]))})
    assert mean == pytest.approx(0.2, rel=1e-5)


def test_a_layer_that_reads_only_zeros_has_a_gradient():
    teacher = jnp.asarray(ACTIVATION)

    def loss(student):
        return attention_loss({"a": student}, {"a": teacher})

    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.zeros((1, 2, 3)))
    assert value == pytest.approx(0.5, rel=1e-5)
    assert np.array_equal(gradient, np.zeros((1, 2, 3)))


# 0.3 * 2 + 0.7 * 0 + 10 * 0.4: the outputs agree, the layer does not.
def test_all_three_losses_are_weighed():
    logits, read = jnp.zeros((1, 2)), {"a": jnp.asarray([[[5.0], [0.0]]])}
    student, teacher = Observed(logits, {"a": jnp.asarray(ACTIVATION)}), Observed(logits, read)
    loss = jnp.asarray(2.0)
    assert distilled(loss, student, teacher, Distillation(0.7, 4.0, 10.0)) == pytest.approx(4.6)
    # What was observed is no hindrance where nobody asks for it.
    assert distilled(loss, student, teacher, Distillation(0.7)) == pytest.approx(0.6)
    with pytest.raises(DistillationError, match="student or teacher gave outputs alone"):
        distilled(loss, student, logits, Distillation(0.7, 4.0, 10.0))


@pytest.mark.parametrize(
    ("student", "teacher", "sentence"),
    [
        ({"a": (1, 2, 3)}, {"b": (1, 2, 3)}, "layers are a, the teacher's b; observe the same"),
        ({"a": (1, 2, 3)}, {"a": (1, 4, 3)}, r"positions \(1, 2\) in the student and \(1, 4\)"),
        ({"a": (1, 3)}, {"a": (1, 3)}, "at least one axis of positions"),
    ],
)
def test_layers_that_cannot_be_compared(student, teacher, sentence):
    ours, theirs = ({k: jnp.ones(v) for k, v in each.items()} for each in (student, teacher))
    with pytest.raises(DistillationError, match=sentence):
        attention_loss(ours, theirs)


DATA = stripes(train=64, search=8, crop=0)
LAYERS = ("conv1", "conv2")


@pytest.fixture(scope="module")
def pair():
    """A base network, and what is left of it with half of its channels."""
    model = made(TwoConvs)
    graph = trace(model, jnp.zeros((8, 8, 8, 1)))
    return graph, compress(model, Policy.uniform(graph, keep=0.5), graph=graph)


def sliced_run(small):
    """``run_graph`` on the sliced arrays of a compressed network."""

    def run(variables, x, train, hook):
        labelled, _ = small.graph.program(x, train)
        removed = small.graph.removed_atoms(labelled, small.kept)
        return run_graph(small.graph, variables, x, train, removed, hook)

    return run


def test_a_pruned_student_looks_where_its_teacher_looks(pair):
    graph, small = pair
    base, trainable = graph.source.variables, graph.source.trainable
    student = observed(sliced_run(small), LAYERS)
    teach = jax.jit(lambda v, x: observed(partial(run_graph, graph), LAYERS)(v, x, False)[0])
    answer = jax.jit(lambda v, x: student(v, x, False)[0])
    x = DATA.normalize(DATA.train.images[:8])
    before, taught = answer(small.variables, x), teach(base, x)
    np.testing.assert_allclose(outputs_of(before), jax.jit(small)(x), rtol=1e-5)
    np.testing.assert_array_equal(before.features["conv1"], x)
    assert before.features["conv2"].shape == (8, 8, 8, 4)
    assert taught.features["conv2"].shape == (8, 8, 8, 8)
    variables = fit(
        student,
        small.variables,
        trainable,
        DATA,
        FitConfig(epochs=2, batch=8, learning_rate=0.02),
        teacher=partial(teach, base),
        distillation=Distillation(0.0, attention=1_000.0),
    )
    after = answer(variables, x)
    far, near = (float(attention_loss(a.features, taught.features)) for a in (before, after))
    assert 0 < near < far / 2


def test_a_layer_that_is_not_there(pair):
    graph, _ = pair
    apply = observed(partial(run_graph, graph), ["conv3"])
    with pytest.raises(DistillationError, match=r"no layer 'conv3' .* conv1, conv2, linear"):
        jax.eval_shape(
            lambda v, x: apply(v, x, False), graph.source.variables, jnp.ones((2, 8, 8, 1))
        )

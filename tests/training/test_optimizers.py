"""Learning rates and optimisers, against values worked out by hand."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfrl.training.config import ConfigError, FitConfig
from pfrl.training.optimizers import adamw, decayed, learning_rate, make_optimizer, sgd


def rates(steps, at, **options):
    """Learning rates at the given numbers of steps done; the peak is 1."""
    schedule = learning_rate(FitConfig(learning_rate=1.0, **options), steps)
    return pytest.approx(np.asarray([schedule(np.int32(t)) for t in at]), abs=1e-6)


# 20 steps, of which 4 rise from 0.1 by 0.225 each; the cosine's half is 8 of its 16 steps later.
def test_the_cosine_rises_and_falls_to_zero():
    found = rates(20, [0, 2, 4, 12, 20], warmup=0.2)
    assert found == [0.1, 0.55, 1.0, 0.5, 0.0]
    # After a quarter of the fall it is (1 + cos 45°) / 2.
    assert rates(20, [8], warmup=0.2) == [(1 + np.sqrt(0.5)) / 2]


@settings(max_examples=40)
@given(steps=st.integers(1, 60), warmup=st.floats(0, 0.5))
def test_the_learning_rate_rises_once_and_falls_once(steps, warmup):
    config = FitConfig(learning_rate=0.3, warmup=warmup)
    found = np.asarray(jax.vmap(learning_rate(config, steps))(np.arange(60)))[:steps]
    rise = int(warmup * steps)
    assert found.min() >= 0
    assert found.max() <= 0.3 + 1e-6
    assert (np.diff(found[:rise]) > 0).all()
    assert (np.diff(found[rise:]) <= 1e-7).all()


PARAMETERS = {
    "conv.kernel": jnp.full((1, 1, 1, 1), 2.0),
    "kernel": jnp.full((1, 1), 2.0),
    "bn.scale": jnp.full(1, 2.0),
    "bn.bias": jnp.full(1, 2.0),
    "quantizer.conv.step": jnp.full((1, 1, 1, 1), 2.0),
    "quantizer.conv.clip": jnp.full((), 2.0),
}
KERNELS = ("conv.kernel", "kernel")


def updated(optimizer, gradient):
    """What a first step adds to each of ``PARAMETERS`` if every gradient has this value."""
    gradients = jax.tree.map(lambda value: jnp.full_like(value, gradient), PARAMETERS)

    def first(gradients):
        return optimizer.update(gradients, optimizer.init(PARAMETERS), PARAMETERS)[0]

    return {name: float(value.sum()) for name, value in jax.jit(first)(gradients).items()}


def test_only_kernels_decay():
    assert {name for name, decays in decayed(PARAMETERS).items() if decays} == set(KERNELS)


# Without a gradient a kernel of 2 shrinks by rate * decay * 2, times 1 + 0.9 for Nesterov's step,
# and with AdamW, whose decay is no gradient, by rate * decay * 2 alone.
@pytest.mark.parametrize(("make", "nesterov"), [(sgd, 1.9), (adamw, 1.0)])
def test_decay_shrinks_kernels_and_nothing_else(make, nesterov):
    expected = {name: -0.1 * 0.5 * 2 * nesterov if name in KERNELS else 0 for name in PARAMETERS}
    assert updated(make(0.1, 0.5), 0.0) == pytest.approx(expected)


# A first step of SGD is 1.9 * rate * gradient; one of Adam is the rate, whatever the gradient.
@pytest.mark.parametrize(("make", "step"), [(sgd, 0.1 * 1.9 * 3), (adamw, 0.1)])
def test_quantizers_have_a_rate_of_their_own(make, step):
    expected = {name: -step * (0.25 if name.startswith("quantizer.") else 1) for name in PARAMETERS}
    found = updated(make(0.1, 0.0, 0.25), 3.0)
    assert found == pytest.approx(expected, rel=1e-4)
    found = updated(make(0.1, 0.0), 3.0)
    assert found == pytest.approx(dict.fromkeys(PARAMETERS, -step), rel=1e-4)


# The first of 10 steps is at a tenth of the peak: 0.01; the decay of a kernel is 0.5 * 2.
def test_the_config_chooses_the_optimizer():
    config = FitConfig(learning_rate=0.1, weight_decay=0.5, quantizer_rate=3.0, optimizer="adamw")
    found = updated(make_optimizer(config, 10), 4.0)
    assert found["kernel"] == pytest.approx(-0.01 * (1 + 0.5 * 2), rel=1e-4)
    assert found["bn.scale"] == pytest.approx(-0.01, rel=1e-4)
    assert found["quantizer.conv.clip"] == pytest.approx(-0.03, rel=1e-4)
    found = updated(make_optimizer(replace(config, optimizer="sgd"), 10), 4.0)
    assert found["kernel"] == pytest.approx(-0.01 * 1.9 * (4 + 0.5 * 2))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing is a number from 0 to below 1, got 1.0"),
        ({"warmup": -0.1}, "warmup is a number from 0 to below 1, got -0.1"),
        ({"quantizer_rate": float("nan")}, "quantizer_rate is a number above 0, got nan"),
    ],
)
def test_settings_that_make_no_sense(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        FitConfig(**options)

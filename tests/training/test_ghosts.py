"""Batches in parts that are normalised each by itself, and the threads that work on them."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pfrl.cpu import backend
from pfrl.training.optimizers import sgd
from pfrl.training.step import TrainState, drive, make_train_step, stepping


def normalised(variables, x, train, *extras):
    """[N, 3] to 2 logits, with a batch normalisation, its running mean and a random key."""
    mean, deviation = x.mean(0), x.std(0) + 0.1
    logits = ((x - mean) / deviation) @ variables["kernel"]
    running = 0.9 * variables["mean"] + 0.1 * mean
    return logits, {"mean": running, "key": variables["key"] + jnp.uint32(1)}


OPTIMIZER = sgd(0.1, 0.01)


def start():
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2)), jnp.float32)
    statistics = {"mean": jnp.zeros(3), "key": jnp.uint32(7)}
    return TrainState({"kernel": kernel}, statistics, OPTIMIZER.init({"kernel": kernel}))


def batch(images=8):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(images, 3)) * np.arange(1, images + 1)[:, None]
    return x.astype(np.float32), rng.integers(0, 2, images)


def close(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# A first step of SGD is linear in the gradient, so that of two halves it is the mean of their own.
def test_a_step_is_the_mean_of_those_of_the_halves():
    x, labels = batch()
    whole, loss = make_train_step(normalised, OPTIMIZER, ghosts=2)(start(), x, labels, None)
    step = make_train_step(normalised, OPTIMIZER)
    halves = [step(start(), x[part], labels[part], None) for part in (slice(4), slice(4, 8))]
    close(loss, (halves[0][1] + halves[1][1]) / 2)
    means = jax.tree.map(lambda a, b: (a + b) / 2, *[state.parameters for state, _ in halves])
    close(whole.parameters, means)
    close(whole.statistics["mean"], x.mean(0) * 0.1)
    assert whole.statistics["key"] == 8
    assert whole.step == 1
    # A normalisation over the whole batch is another function.
    assert abs(float(step(start(), x, labels, None)[1] - loss)) > 1e-3


@pytest.mark.parametrize(
    ("images", "ghosts", "sizes"), [(8, 2, [4, 4]), (6, 4, [3, 3]), (7, 2, [7])]
)
def test_parts_are_of_equal_size(images, ghosts, sizes):
    x, labels = batch(images)
    step = make_train_step(normalised, OPTIMIZER, ghosts=ghosts)
    parts = step.parts((x, labels, None))
    assert [len(part[0]) for part in parts] == sizes
    assert np.array_equal(np.concatenate([part[0] for part in parts]), x)
    assert np.array_equal(np.concatenate([part[1] for part in parts]), labels)
    assert all(part[2] is None for part in parts)


def test_a_state_does_not_depend_on_the_number_of_cores(monkeypatch):
    step, states = make_train_step(normalised, OPTIMIZER, ghosts=2), []
    for cores in ([0], [0, 1]):
        monkeypatch.setattr(backend, "cores", lambda cores=cores: cores)
        state, run = start(), stepping(step)
        for _ in range(3):
            state, _ = run(state, *batch(), None)
        states.append(state)
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        assert np.array_equal(a, b)
    state = start()
    for _ in range(3):
        state, _ = jax.jit(step)(state, *batch(), None)
    close(state, states[0])


def test_each_core_works_on_an_item_and_results_stay_in_order(monkeypatch):
    monkeypatch.setattr(backend, "cores", lambda: [0, 1])
    both = threading.Barrier(2, timeout=600)

    def slow_first(item):
        both.wait()
        time.sleep(0.1 if item == 0 else 0)
        return item

    assert list(backend.each(slow_first, range(4))) == [0, 1, 2, 3]


def test_what_is_not_wanted_any_more_is_not_begun(monkeypatch):
    monkeypatch.setattr(backend, "cores", lambda: [0, 1])
    begun, closed = [], threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            closed.set()
            super().shutdown(wait)

    def work(item):
        begun.append(item)
        assert item == 0 or closed.wait(600)
        return item

    monkeypatch.setattr(backend, "ThreadPoolExecutor", Pool)
    results = backend.each(work, range(100))
    assert next(results) == 0
    results.close()
    assert closed.is_set() and len(begun) <= 3, "the first one, and one a thread"


def test_large_pictures_are_trained_in_parts(monkeypatch):
    """And so by a full training; here all pictures are large."""
    monkeypatch.setattr(backend, "LARGE", 1)
    x, labels = batch()
    parts = backend.parts_of_batch((8, 8, 1), 1)
    step = make_train_step(normalised, OPTIMIZER, ghosts=parts)
    assert parts == 4 and backend.parts_of_batch((8,), 1) == 1
    state, loss = drive(step, 1)(start(), [(x, labels, None)] * 2)
    once, _ = step(start(), x, labels, None)
    expected, last = step(once, x, labels, None)
    close(loss, last)
    close(state, expected)

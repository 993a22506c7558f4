"""The training loop: what it learns, how it goes on after an interruption, what it is told."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from pfrl.data import Split
from pfrl.files import load_arrays
from pfrl.tasks import Classification
from pfrl.tasks.losses import cross_entropy
from pfrl.training.config import ConfigError
from pfrl.training.distillation import Distillation
from pfrl.training.fit import Diverged, FitConfig, fit, mean_quality
from pfrl.training.plateau import Plateau
from tests.support.tiny import stripes

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
EVERYTHING = replace(CONFIG, optimizer="adamw", label_smoothing=0.1, warmup=0.1)
SHORT = replace(CONFIG, epochs=0.125)


def trained(config=CONFIG, variables=None, network=linear, data=DATA, **options):
    variables = start() if variables is None else variables
    return fit(network, variables, TRAINABLE, data, config, **options)


def test_training_learns_and_leaves_its_input_alone():
    before = start()
    told = []
    after = trained(variables=before, progress=lambda *report: told.append(report))
    assert [report[:2] for report in told] == [(20, 30), (30, 30)]
    assert told[-1][2] < np.log(4)
    for name, value in start().items():
        assert np.array_equal(before[name], value)
        assert not np.array_equal(after[name], value)
    score = mean_quality(lambda x: linear(after, x, False)[0], DATA, DATA.train)
    assert score > 0.9


class Interrupted(Exception):
    pass


def after(last):
    def progress(step, steps, loss):
        if step == last:
            raise Interrupted

    return progress


@pytest.fixture
def saves_often(monkeypatch):
    """The loss is looked at, and the state is written, every 5 steps."""
    monkeypatch.setattr("pfrl.training.fit.REPORT_EVERY", 5)
    monkeypatch.setattr("pfrl.training.checkpoint.SECONDS", 0.0)


# A checkpoint every 5 steps; at step 20 the process dies, before that step is written down: step 15
# is the last, in the middle of the second epoch.
@pytest.mark.parametrize(
    ("config", "per_call"),
    [(CONFIG, 1), (EVERYTHING, 1), (EVERYTHING, 5)],
    ids=["plain", "everything", "scanned"],
)
def test_training_goes_on_from_a_checkpoint_to_the_same_result(
    tmp_path, monkeypatch, saves_often, config, per_call
):
    monkeypatch.setattr("pfrl.training.fit.steps_per_call", lambda backend: per_call)
    batches = []

    def teacher(x):
        batches.append(x.tobytes())
        return jnp.zeros((len(x), 4))

    train = partial(trained, config, teacher=teacher, distillation=Distillation(0.3))
    whole, all_batches = train(), batches.copy()
    path = tmp_path / "training.npz"
    with pytest.raises(Interrupted):
        train(checkpoint=path, progress=after(20))
    assert load_arrays(path)[1]["done"] == 15
    batches.clear()
    resumed = train(checkpoint=path)
    # Both halves of every batch, in any order.
    assert len(all_batches) == 60
    assert sorted(batches) == sorted(all_batches[30:])
    assert set(resumed) == set(whole)
    assert all(np.array_equal(resumed[name], whole[name]) for name in whole)
    assert not path.exists()


# The same 30 steps, in calls of one step and in one of 20 and one of 10.
def test_several_steps_a_call_are_the_same_training(monkeypatch):
    one = trained(EVERYTHING)
    monkeypatch.setattr("pfrl.training.fit.steps_per_call", lambda backend: 20)
    told = []
    several = trained(EVERYTHING, progress=lambda *report: told.append(report[:2]))
    assert told == [(20, 30), (30, 30)]
    for name, value in one.items():
        np.testing.assert_allclose(several[name], value, rtol=1e-5, atol=1e-6)


def test_a_checkpoint_is_written_once_a_minute(tmp_path, monkeypatch, saves_often):
    # The clock is looked at after every fifth step, and after writing: always 25 seconds later.
    clock = SimpleNamespace(monotonic=iter(range(0, 1000, 25)).__next__)
    monkeypatch.setattr("pfrl.training.checkpoint.time", clock)
    monkeypatch.setattr("pfrl.training.checkpoint.SECONDS", 60.0)
    path, found = tmp_path / "training.npz", []

    def look(step, steps, loss):
        found.append((step, load_arrays(path)[1]["done"] if path.exists() else 0))

    trained(checkpoint=path, progress=look)
    assert found == [(5, 0), (10, 0), (15, 0), (20, 15), (25, 15), (30, 15)]


def halved(variables, x, train):
    """Another network of the same arrays."""
    return linear(variables, x / 2, train)


# An edited file of the user's may hold any of them: a network of other shapes, of other numbers to
# start from, of the same arrays, and data of other images, labels or scaling.
@pytest.mark.parametrize(
    "other",
    [
        {"config": FitConfig(epochs=3.75, batch=8, learning_rate=0.01, seed=6)},
        {"variables": start() | {"mean": jnp.zeros(3)}},
        {"variables": start() | {"bias": jnp.ones(4)}},
        {"network": halved},
        {"data": replace(DATA, train=replace(DATA.train, images=255 - DATA.train.images))},
        {"data": replace(DATA, train=replace(DATA.train, labels=DATA.train.labels[::-1]))},
        {"data": replace(DATA, mean=(0.25,))},
    ],
    ids=["config", "shapes", "start", "network", "images", "labels", "scaling"],
)
def test_the_checkpoint_of_another_training_is_left_out(tmp_path, saves_often, other):
    path, expected = tmp_path / "training.npz", trained(**other)
    with pytest.raises(Interrupted):
        trained(checkpoint=path, progress=after(20))
    found = trained(**other, checkpoint=path)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_a_loss_that_is_no_number_stops_the_training():
    with pytest.raises(Diverged, match=r"the loss was (nan|inf) after 20 of 30 steps"):
        trained(FitConfig(epochs=3.75, batch=8, learning_rate=1e38))


def first_loss(config, variables=None, **options):
    """The loss of the first step, before anything is learnt; and the batch that it was on."""
    told = []
    trained(config, variables, progress=lambda *report: told.append(report), **options)
    rng = np.random.default_rng([config.seed, 0])
    ((x, labels),) = DATA.training_batches(config.batch, rng, 1)
    assert [report[:2] for report in told] == [(1, 1)]
    return told[0][2], jnp.asarray(x), jnp.asarray(labels)


def test_labels_are_smoothed_by_the_config():
    loss, x, labels = first_loss(replace(SHORT, label_smoothing=0.2))
    logits = linear(start(), x, True)[0]
    assert loss == pytest.approx(float(cross_entropy(logits, labels, 0.2)), rel=1e-5)
    assert loss != pytest.approx(float(cross_entropy(logits, labels)), rel=1e-3)


def test_a_teacher_is_asked_about_the_images_of_the_step():
    asked = []

    def teacher(x):
        asked.append(x)
        return jnp.zeros((len(x), 4))

    def squares(outputs, teacher, temperature):
        return jnp.square(outputs - teacher).mean()

    soft = Distillation(0.5, divergence=squares)
    loss, x, labels = first_loss(SHORT, teacher=teacher, distillation=soft)
    # Two threads, each about a half.
    halves = sorted(asked, key=lambda half: not np.array_equal(half, x[: len(half)]))
    np.testing.assert_array_equal(np.concatenate(halves), x)
    logits = linear(start(), x, True)[0]
    hard = float(cross_entropy(logits, labels))
    assert loss == pytest.approx(0.5 * hard + 0.5 * float(jnp.square(logits).mean()), rel=1e-5)


class Furthest(Classification):
    """Judged by the example that is worst."""

    def loss(self, outputs, targets):
        return jnp.abs(outputs.sum(-1) - targets).max()


def test_the_task_has_the_loss():
    told, (_, x, labels) = [], first_loss(SHORT)
    data = replace(DATA, task=Furthest())
    fit(linear, start(), TRAINABLE, data, SHORT, progress=lambda *report: told.append(report[2]))
    expected = float(Furthest().loss(linear(start(), x, True)[0], labels))
    assert told == [pytest.approx(expected, rel=1e-5)]


def test_a_batch_is_normalised_as_a_whole_or_in_parts():
    def centred(variables, x, train):
        flat = jnp.reshape(x, (len(x), -1))
        outputs = (flat - flat.mean(0)) @ variables["kernel"] + variables["bias"]
        return outputs, {"mean": variables["mean"]}

    def ends(**options):
        return trained(replace(SHORT, **options), network=centred)["kernel"]

    np.testing.assert_array_equal(ends(), ends(ghost_batches=1))
    assert not np.allclose(ends(), ends(ghost_batches=2), atol=1e-5)


def test_labels_that_are_no_classes_are_not_smoothed():
    points: Any = SimpleNamespace(loss=cross_entropy)
    with pytest.raises(ConfigError, match=r"label_smoothing is 0\.1, .* to 0 for another task"):
        fit(linear, start(), TRAINABLE, replace(DATA, task=points), EVERYTHING)


def test_a_projection_holds_from_the_first_step_to_the_last():
    mask = np.random.default_rng(1).random((64, 4)) < 0.25

    def project(parameters, done):
        return {**parameters, "kernel": parameters["kernel"] * mask}

    sparse = start() | {"kernel": start()["kernel"] * mask}
    loss, x, labels = first_loss(SHORT, project=project)
    assert loss == pytest.approx(float(cross_entropy(linear(sparse, x, True)[0], labels)), rel=1e-5)
    after = trained(project=project)
    assert np.array_equal(after["kernel"] != 0, mask)


# Seven images in batches of three: the last has one image and two of padding, which a network
# that always answers 0 would be right about, were they counted.
def test_accuracy_counts_real_images_only_and_pads_the_last_batch(monkeypatch):
    part = Split(DATA.train.images[:7], np.asarray([0, 0, 1, 0, 1, 1, 0], np.int32))
    shapes = []

    def zero(x):
        shapes.append(x.shape)
        return np.eye(4)[np.zeros(len(x), int)]

    assert mean_quality(zero, DATA, part) == 4 / 7
    assert shapes == [(7, 8, 8, 1)]
    monkeypatch.setattr("pfrl.training.fit.JUDGED_AT_ONCE", 3)
    assert mean_quality(zero, DATA, part) == 4 / 7
    assert shapes[1:] == [(3, 8, 8, 1)] * 3


def test_accuracy_sees_normalised_images():
    seen = []

    def logits(x):
        seen.append(x)
        return np.zeros((len(x), 4))

    mean_quality(logits, DATA, DATA.search)
    assert np.array_equal(seen[0], DATA.normalize(DATA.search.images))


def rising(*qualities):
    """A judge that finds these, one after the other, and what it was asked about."""
    asked = []

    def quality(variables):
        asked.append({name: np.array(value) for name, value in variables.items()})
        return qualities[len(asked) - 1]

    return quality, asked


# Judged every 5 steps of 30. Of 100 images at 0.9 one standard error is 0.03.
@pytest.mark.parametrize(
    ("qualities", "ends", "best"),
    [
        ((0.5, 0.6, 0.7, 0.8, 0.85, 0.9), 6, 5),  # rises to the end
        ((0.5, 0.9, 0.8, 0.8), 4, 1),  # stands for 10 steps, and is worse
        ((0.5, 0.9, 0.88, 0.89), 4, 3),  # stands, and cannot be told apart: the latest
        ((0.9, 0.8, 0.7, 0.6), 4, 0),  # not before the earliest end
    ],
)
def test_a_training_ends_when_quality_has_stopped_rising(qualities, ends, best):
    told = []
    quality, asked = rising(*qualities)
    plateau = Plateau(quality, images=100, every=5, patience=10, earliest=20)
    after = trained(plateau=plateau, progress=lambda *report: told.append(report[:2]))
    assert len(asked) == ends
    assert told[-1] == (5 * ends, 5 * ends)
    for name, value in asked[best].items():
        np.testing.assert_array_equal(after[name], value)


def test_a_plateau_is_found_after_an_interruption_as_without_one(tmp_path, saves_often):
    def plateau():
        return Plateau(rising(*qualities)[0], images=100, every=5, patience=10, earliest=10)

    qualities = (0.5, 0.9, 0.7, 0.95, 0.6, 0.6)
    whole, path = trained(plateau=plateau()), tmp_path / "training.npz"
    with pytest.raises(Interrupted):
        trained(plateau=plateau(), checkpoint=path, progress=after(15))
    assert load_arrays(path)[1]["done"] == 10
    qualities = qualities[2:]
    resumed = trained(plateau=plateau(), checkpoint=path)
    assert all(np.array_equal(resumed[name], whole[name]) for name in whole)

"""Tasks: losses, qualities and decoded points against values worked out by hand."""

import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pfrl.tasks import Classification, Landmarks, Pose
from pfrl.tasks.agreement import Agreement
from pfrl.tasks.points import SMALLEST_SIZE, box_sides, distance_between, distances

TASKS = {"classification": Classification(), "landmarks": Landmarks(), "pose": Pose()}

# One image with three points. In heights of an image that is twice as wide as high, the box round
# them is 0.3 high and 0.4 wide: its diagonal is 0.5, its longer side 0.4. From the first point to
# the last it is 0.3 down and 0.2 across.
POINTS = np.asarray([[[0.2, 0.1], [0.2, 0.3], [0.5, 0.2]]], np.float32)


def maps_of(*spots, shape=(4, 5)):
    """Maps ``[1, H', W', K]`` that are dark but for the given ``{(row, column): value}``."""
    maps = np.zeros((1, *shape, len(spots)), np.float32)
    for point, cells in enumerate(spots):
        for cell, value in cells.items():
            maps[(0, *cell, point)] = value
    return maps


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_task_is_plain(task):
    assert pickle.loads(pickle.dumps(task)) == task
    assert task.wording == pickle.loads(pickle.dumps(task.wording))


def test_widths_of_the_outputs():
    assert {name: task.outputs(5) for name, task in TASKS.items()} == {
        "classification": 5,
        "landmarks": 10,
        "pose": 5,
    }
    assert [task.dense for task in TASKS.values()] == [False, False, True]
    assert [task.invariant for task in TASKS.values()] == [True, False, False]


def test_what_is_reported_of_a_quality():
    nme, pck = Landmarks().wording, Pose().wording
    assert nme.value(0.75) == 0.25 and pck.value(0.75) == 0.75
    assert nme.value(np.asarray([0.5, 1.0])).tolist() == [0.5, 0.0]
    assert nme.change(0.25) == -0.25 and pck.change(0.25) == 0.25
    assert math.copysign(1, nme.change(0.0)) == 1
    assert Pose(alpha=0.05).wording.metric == "PCK@0.05"
    assert "true points 0 and 2" in Landmarks(between=(0, 2)).wording.definition
    assert "true points 0 and 2" in Pose(between=(0, 2)).wording.definition


def test_distances_are_in_heights_of_the_image():
    assert distances(np.asarray([0.0, 0.0]), np.asarray([0.3, 0.2]), 2.0) == pytest.approx(0.5)
    assert box_sides(POINTS, 2.0) == pytest.approx(np.asarray([[0.3, 0.4]]))
    assert distance_between(POINTS, (0, 2), 2.0) == pytest.approx(math.hypot(0.3, 0.2))
    visible = np.asarray([[True, True, False]])
    assert box_sides(POINTS, 2.0, visible) == pytest.approx(np.asarray([[0.0, 0.4]]))
    assert box_sides(POINTS, 2.0, ~(visible | True)).tolist() == [[0.0, 0.0]]


def test_classification_is_cross_entropy_and_the_largest_logit():
    task = Classification()
    logits = jnp.log(jnp.asarray([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    labels = np.asarray([0, 1])
    assert float(task.loss(logits, jnp.asarray(labels))) == pytest.approx(
        (math.log(2) + math.log(10)) / 2
    )
    assert task.quality(np.asarray(logits), labels).tolist() == [1.0, 0.0]
    assert task.agree(np.asarray(logits), np.asarray(logits) * 3).tolist() == [True, True]
    assert task.agree(np.asarray(logits), np.asarray(logits)[::-1]).tolist() == [False, False]


# At temperature 2 the teacher's logits 2 ln 3 and 0 are 3/4 and 1/4, the student's 1/2 and 1/2:
# KL = 3/4 ln(3/2) + 1/4 ln(1/2), times T² = 4.
def test_divergence_of_classes_is_softened():
    student, teacher = jnp.zeros((1, 2)), jnp.asarray([[2 * math.log(3), 0.0]])
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert float(Classification().divergence(student, teacher, 2.0)) == pytest.approx(expected)


# Errors 0, 1/16, 1/4 and 0.5 with w = 10/64 and ε = 2/64: 1/16 is below w and gives w · ln(1 + 2);
# 1/4 and 0.5 are above and give themselves less w, plus w · ln(1 + 5).
def test_wing_loss_worked_by_hand():
    targets = np.asarray([[[0.5, 0.5], [0.5, 0.5]]], np.float32)
    outputs = jnp.asarray([[0.5, 0.5625, 0.25, 1.0]])
    w = 10 / 64
    expected = w * math.log(3) + (0.25 + 0.5) - 2 * w + 2 * w * math.log(6)
    loss = Landmarks().loss
    assert float(loss(outputs, targets)) == pytest.approx(expected / 4)
    # Both pieces meet at w.
    beside = [float(loss(outputs.at[0, 0].set(0.5 + w + d), targets)) for d in (-1e-6, 1e-6)]
    assert beside[0] == pytest.approx(beside[1], abs=1e-6)
    # The slope of the near piece is w / (ε + |e|), of the far one 1; a quarter each for the mean.
    slopes = jax.grad(loss)(outputs, targets)[0]
    assert slopes[1:].tolist() == pytest.approx([w / (6 / 64) / 4, -0.25, 0.25])
    assert float(loss(outputs[:, [0, 0, 0, 0]], targets)) == 0


def test_divergence_of_landmarks_is_the_loss_with_the_teachers_points():
    outputs, teacher = jnp.asarray([[0.1, 0.2]]), jnp.asarray([[0.4, 0.2]])
    task = Landmarks()
    assert task.divergence(outputs, teacher, 4.0) == task.loss(outputs, np.asarray([[[0.4, 0.2]]]))
    assert float(task.divergence(teacher, teacher, 4.0)) == 0


# The first point is off by 0.05 of the width, 0.1 heights; the second by 0.1 of the height and
# 0.1 of the width, √(0.01 + 0.04); the third is right.
def test_nme_by_the_box_and_between_two_points():
    outputs = POINTS.reshape(1, 6) + np.asarray([[0, 0.05, 0.1, 0.1, 0, 0]], np.float32)
    mean = (0.1 + math.hypot(0.1, 0.2)) / 3
    by_box = Landmarks(aspect=2.0)
    assert by_box.nme(outputs, POINTS) == pytest.approx(mean / 0.5)
    assert by_box.quality(outputs, POINTS) == pytest.approx(1 - mean / 0.5)
    between = Landmarks(between=(0, 2), aspect=2.0)
    assert between.nme(outputs, POINTS) == pytest.approx(mean / math.hypot(0.3, 0.2))
    # In a square image the box is 0.3 by 0.2, and the second point is off by √0.02.
    square = (0.05 + math.sqrt(0.02)) / 3 / math.hypot(0.3, 0.2)
    assert Landmarks().nme(outputs, POINTS) == pytest.approx(square)


def test_nme_counts_to_one_and_tiny_boxes_as_small_ones():
    task = Landmarks()
    assert task.quality(POINTS.reshape(1, 6) + 5, POINTS).tolist() == [0.0]
    assert task.quality(POINTS.reshape(1, 6), POINTS).tolist() == [1.0]
    one_place = np.full((1, 2, 2), 0.5, np.float32)
    outputs = one_place.reshape(1, 4) + np.asarray([[0, 0, 0, SMALLEST_SIZE]], np.float32)
    assert task.nme(outputs, one_place) == pytest.approx(0.5, rel=1e-3)


def test_landmarks_agree_up_to_a_thousandth_of_the_side():
    first = np.asarray([[0.5, 0.5], [0.5, 0.5]], np.float32)
    other = first + np.asarray([[0.0009, -0.0009], [0.0, 0.0011]], np.float32)
    assert Landmarks().agree(first, other).tolist() == [True, False]


# The centre of cell (1, 2) of 3 × 4 cells is (1.5 / 3, 2.5 / 4); with σ = 2 a neighbour has
# exp(-1/8) and a cell that is one down and two across exp(-5/8).
def test_target_maps_worked_by_hand():
    target = np.asarray([[[1.5 / 3, 2.5 / 4]]], np.float32)
    (found,) = np.asarray(Pose(sigma=2.0).heat_maps(target, 3, 4))
    assert found.shape == (3, 4, 1)
    assert found[1, 2, 0] == pytest.approx(1)
    assert [found[0, 2, 0], found[1, 1, 0], found[2, 0, 0]] == pytest.approx(
        [math.exp(-1 / 8), math.exp(-1 / 8), math.exp(-5 / 8)]
    )
    # Half a cell beside the centre, the two nearest cells are equally bright.
    (between,) = np.asarray(Pose().heat_maps(np.asarray([[[0.5, 0.5]]]), 3, 4))
    assert between[1, 1:3, 0].tolist() == pytest.approx([math.exp(-1 / 8)] * 2)


# A map of 1 × 2 cells with the point in the middle of the first: the target is 1 and exp(-1/2),
# so a dark map is off by (1 + exp(-1)) / 2 in the mean of its squares.
def test_loss_of_maps_is_a_mean_over_cells_and_a_sum_over_visible_points():
    task = Pose()
    dark = (1 + math.exp(-1)) / 2
    points = np.asarray([[[0.5, 0.25]] * 2] * 3, np.float32)
    assert float(task.loss(jnp.zeros((3, 1, 2, 2)), points)) == pytest.approx(2 * dark)
    seen = np.concatenate([points, np.asarray([[[1.0], [1.0]], [[1.0], [0.0]], [[0.0], [0.0]]])], 2)
    assert float(task.loss(jnp.zeros((3, 1, 2, 2)), seen)) == pytest.approx((2 + 1 + 0) * dark / 3)
    assert float(task.loss(task.heat_maps(points, 1, 2), points)) == 0
    slopes = jax.grad(task.loss)(jnp.ones((3, 1, 2, 2)), seen)
    assert np.abs(slopes).max((1, 2)).astype(bool).tolist() == [
        [True] * 2,
        [True, False],
        [False] * 2,
    ]


def test_divergence_of_maps_is_their_squared_difference():
    outputs = jnp.zeros((2, 1, 2, 3))
    teacher = outputs.at[0, 0, 0, 1].set(2.0)
    # 4 in one of two cells of one map of one of two examples.
    assert float(Pose().divergence(outputs, teacher, 4.0)) == pytest.approx(4 / 2 / 2)


def test_points_of_maps_move_towards_the_brighter_neighbour():
    maps = maps_of(
        {(1, 2): 1.0, (1, 3): 0.5, (0, 2): 0.3, (2, 2): 0.1},  # right and up
        {(0, 4): 1.0, (0, 3): 0.5, (1, 4): 0.5},  # in a corner: as it is
        {(2, 0): 1.0, (3, 0): 0.2},  # at the left edge: down alone
        {},  # dark: the first cell
    )
    (plain,) = Pose(refine=False).points(maps)
    assert (plain * (4, 5)).tolist() == pytest.approx(
        np.asarray([[1.5, 2.5], [0.5, 4.5], [2.5, 0.5], [0.5, 0.5]])
    )
    (moved,) = Pose().points(maps)
    assert ((moved - plain) * (4, 5)).round(6).tolist() == [
        [-0.25, 0.25],
        [0.0, 0.0],
        [0.25, 0.0],
        [0.0, 0.0],
    ]


# Cells of 1/10 of the height and of the width. The visible points' box is 0.549 high and 0.34
# wide, so that with α = 0.1 those within 0.0549 are found.
def test_pck_by_the_box_worked_by_hand():
    spots = ({(2, 3): 1.0}, {(7, 3): 1.0}, {(4, 6): 1.0}, {(4, 1): 1.0})
    maps = maps_of(*spots, shape=(10, 10))
    # Off by nothing; 0.049 down; 0.04 down and across, which is 0.057; far.
    truth = np.asarray([[[0.25, 0.35], [0.799, 0.35], [0.49, 0.69], [0.9, 0.9]]], np.float32)
    seen = np.concatenate([truth, np.asarray([[[1.0], [1.0], [1.0], [0.0]]])], 2)
    # The last point is not visible: it counts neither for the box nor as missed.
    assert box_sides(truth, visible=seen[..., 2] > 0)[0] == pytest.approx([0.549, 0.34])
    assert Pose(alpha=0.1, refine=False).quality(maps, seen) == pytest.approx(2 / 3)
    assert Pose(alpha=0.104, refine=False).quality(maps, seen) == pytest.approx(1)
    # Without a column of visibility all count, and the box is 0.65 high.
    assert Pose(alpha=0.1, refine=False).quality(maps, truth) == pytest.approx(3 / 4)


def test_pck_between_two_points_in_a_wide_image():
    maps = maps_of({(0, 0): 1.0}, {(0, 4): 1.0}, shape=(2, 10))
    truth = np.asarray([[[0.25, 0.05], [0.25, 0.55]]], np.float32)
    # The second is off by 0.1 of the width. From point to point it is 0.5 of it.
    for aspect in (1.0, 3.0):
        assert Pose(0.21, (0, 1), refine=False, aspect=aspect).quality(maps, truth) == 1
        assert Pose(0.19, (0, 1), refine=False, aspect=aspect).quality(maps, truth) == 0.5


def test_an_image_without_visible_points_has_quality_zero():
    targets = np.asarray([[[0.1, 0.1, 0.0], [0.9, 0.9, 0.0]]], np.float32)
    maps = maps_of({(0, 0): 1.0}, {(3, 4): 1.0})
    assert Pose().quality(maps, targets).tolist() == [0.0]


def test_poses_agree_where_all_maps_are_brightest_in_the_same_cells():
    first = maps_of({(1, 2): 1.0}, {(3, 3): 1.0})
    dimmer, other = 0.1 * first, maps_of({(1, 2): 1.0}, {(3, 4): 1.0})
    assert Pose().agree(first, dimmer).tolist() == [True]
    assert Pose().agree(first, other).tolist() == [False]


def test_a_network_that_ends_in_a_softmax_is_trained_as_the_one_before_it():
    """Its cross-entropy, its distillation and their gradients, of confident answers too."""
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(6, 4)) * 10, jnp.float32)
    teacher = jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 4, 6))
    plain, ended = Classification(), Classification(probabilities=True)
    for of_logits, of_probabilities in (
        (lambda z: plain.loss(z, labels), lambda p: ended.loss(p, labels)),
        (lambda z: plain.loss(z, labels, 0.1), lambda p: ended.loss(p, labels, 0.1)),
        (
            lambda z: plain.divergence(z, teacher, 3.0),
            lambda p: ended.divergence(p, jax.nn.softmax(teacher), 3.0),
        ),
        (
            lambda z: Agreement().loss(z, teacher),
            lambda p: Agreement(probabilities=True).loss(p, jax.nn.softmax(teacher)),
        ),
    ):
        expected, gradient = jax.value_and_grad(of_logits)(logits)
        found, other = jax.value_and_grad(lambda z, f=of_probabilities: f(jax.nn.softmax(z)))(
            logits
        )
        assert float(found) == pytest.approx(float(expected), rel=1e-4)
        assert np.allclose(other, gradient, atol=1e-5)
    assert "print(probabilities.argmax" in ended.wording.reading
    assert plain.wording == Classification.wording

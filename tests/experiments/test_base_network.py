"""Before a search the base network's quality is said, with a warning if it is at chance."""

from dataclasses import replace

import numpy as np

from envs import Problem
from envs.decisions import Decisions
from experiments.run.base_network import best_constant, tell_base, tell_data, tell_little_left
from pfrl.compression.policy import Policy
from pfrl.cost import Budget, CostModel
from pfrl.data import Dataset, Split
from pfrl.graph import trace
from pfrl.graph.frontends import from_function
from pfrl.tasks.landmarks import Landmarks
from tests.support.tiny import shape
from tests.support.toy import ToyTask


def dataset(labels, task=None):
    images = np.zeros((len(labels), 2, 2, 1), np.uint8)
    split = Split(images, np.asarray(labels))
    kind = {} if task is None else {"task": task, "crop": 0, "flip": False}
    return Dataset("d", split, split, lambda: split, ("a", "b", "c"), (0.5,), (0.5,), **kind)


def told(capsys, labels, accuracy):
    tell_base(dataset(labels), ToyTask().open().graph, "resnet20", accuracy)
    return capsys.readouterr().err.replace("\u00a0", " ").splitlines()


def test_how_a_network_of_ones_own_sees_the_images_is_said(capsys):
    tell_data(dataset(np.array([0, 1, 2], np.int32)), "resnet20")
    tell_data(dataset(np.array([0, 1, 2], np.int32)), "net.py:make")
    summary, again, seen = capsys.readouterr().err.splitlines()
    assert summary == again == "3 training and 3 search images, 3 classes"
    assert seen == "the network sees pixels in [0, 1], less 0.5, over 0.5 (--mean, --std)"


def test_the_best_constant_answer():
    assert best_constant(dataset(np.array([0, 1, 1, 2], np.int32))) == 0.5
    points = np.zeros((4, 3, 2), np.float32)
    assert best_constant(dataset(points, Landmarks())) is None


def test_a_network_at_chance_is_warned_of(capsys):
    labels = np.array([0, 1, 1, 2, 2], np.int32)
    assert told(capsys, labels, 0.9) == ["the base network: accuracy 90.00 % on the search images"]
    quality, warning = told(capsys, labels, 0.41)
    assert quality.endswith("41.00 % on the search images")
    assert warning.startswith("warning: one answer for all images is right for 40.00 % of them.")
    assert "--mean" in warning


def test_a_scaling_of_pixels_that_suits_a_network_of_ones_own_far_better_is_named(capsys):
    """As of a file of Keras that scales pixels itself: it wants them from 0 to 255."""
    images = np.full((8, 2, 2, 1), 50, np.uint8)
    images[::2] = 200
    labels = (np.arange(8) % 2 == 0).astype(np.int32)
    split = Split(images, labels)
    data = Dataset("d", split, split, lambda: split, ("dark", "light"), (0.5,), (0.5,))

    def apply(variables, x):
        light = x.mean((1, 2, 3))[:, None] - 128
        return light * variables["w"]

    source = from_function(apply, {"w": np.array([[-1.0, 1.0]], np.float32)})
    graph = trace(source, shape(1, 2, 2, 1))

    def warnings(model, dataset):
        tell_base(dataset, graph, model, 0.5)
        return capsys.readouterr().err.replace("\u00a0", " ").splitlines()[1:]

    (warning,) = warnings("net.onnx", data)
    assert "of 8 of them 50.00 % are right now, and 100.00 % with --mean 0 --std 0.0039" in warning
    for model, dataset in (("net.onnx", replace(data, scaled=True)), ("resnet20", data)):
        (warning,) = warnings(model, dataset)
        assert "one answer for all images" in warning


def little_left(capsys, budget, bits=32):
    graph = ToyTask().open().graph
    problem = Problem(ToyTask(), budget=Budget.parse(budget), keep_min=0.05, fixed_bits=(bits, 32))
    tell_little_left(Decisions(problem, graph, CostModel(graph)), CostModel(graph))
    return capsys.readouterr().err.replace("\u00a0", " ")


def test_a_budget_that_leaves_hardly_anything_is_warned_of(capsys):
    assert little_left(capsys, "macs=0.5") == ""
    told = little_left(capsys, "macs=0.1")
    assert told.startswith("warning: to have 10.0 % of the base's macs, a network that is cut")
    assert "all channels" not in told


def test_what_integers_take_alone_is_said_with_it(capsys):
    costs = CostModel(ToyTask().open().graph)
    whole = costs.of(Policy.uniform(costs.graph, 1.0, 8, 32))["bytes"] / costs.base["bytes"]
    assert little_left(capsys, "bytes=0.3", bits=8) == ""
    told = little_left(capsys, "bytes=0.07", bits=8)
    assert told.endswith(f"; with all channels it has {100 * whole:.1f} % of the base's bytes\n")

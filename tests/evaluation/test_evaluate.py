"""One evaluation of a policy: what it trains on, what judges it, and that it compiles once."""

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pfrl.compression.policy import Policy
from pfrl.compression.recipe import PLAIN, REPAIRED, Recipe
from pfrl.compression.sliced import compress
from pfrl.cost import CostModel
from pfrl.data import Split
from pfrl.evaluation.compilations import compilations
from pfrl.evaluation.config import EpisodeConfig, Evaluation
from pfrl.evaluation.evaluator import NetworkEvaluator
from pfrl.evaluation.recorded import Recorded, RecordError
from pfrl.evaluation.validation import split_search
from pfrl.files import FileError
from pfrl.graph import trace
from pfrl.training.fit import mean_quality
from pfrl.training.optimizers import sgd
from pfrl.training.step import TrainState, make_train_step
from tests.support.tiny import TwoConvs, at_home, made, shape, stripes

SEED = 3
CONFIG = EpisodeConfig(
    steps=12, batch=32, learning_rate=0.05, statistics_images=64, validation="xla"
)
RECIPE = Recipe(images=128)
LEARNED = Recipe(images=128, weights="lsq", clips="lsq")
DATA = stripes()


@pytest.fixture(scope="module")
def graph():
    return at_home(trace(made(TwoConvs), shape(2, 8, 8, 1)), DATA)


@pytest.fixture(scope="module")
def evaluator(graph):
    """Quantizing, and with everything compiled: it has evaluated one policy."""
    found = NetworkEvaluator(graph, DATA, CostModel(graph), CONFIG, SEED, True, RECIPE)
    found.evaluate(Policy.uniform(graph, 0.9, 7, 7))
    return found


def policies(graph, count):
    """Distinct policies with all kinds of shares and bit widths."""
    rng = np.random.default_rng(0)
    names = [layer.name for layer in graph.layers]

    def bits():
        return {name: int(rng.choice([2, 3, 4, 8, 32])) for name in names}

    return [
        Policy({g: float(rng.uniform(0.2, 1)) for g in graph.groups}, bits(), bits())
        for _ in range(count)
    ]


# The search split is 330 images: 264 for rewards, in batches of 150 and 114, and 66 others.
def test_after_the_first_evaluation_nothing_compiles(graph, evaluator):
    tried = policies(graph, 12)
    before = compilations()
    found = [evaluator.evaluate(policy) for policy in tried]
    judged = evaluator.score(tried[0], "held_out")
    held_out, finite = judged.quality, judged.finite
    assert compilations() == before
    assert len({tuple(evaluation.costs.values()) for evaluation in found}) == 12
    assert len({evaluation.accuracy for evaluation in found}) > 3
    assert finite
    assert 0 <= held_out <= 1
    assert held_out * 66 == pytest.approx(round(held_out * 66))
    for policy, evaluation in zip(tried, found, strict=True):
        assert evaluation.accuracy * 264 == pytest.approx(round(evaluation.accuracy * 264))
        assert evaluation.costs == CostModel(graph).of(policy)
        assert evaluation.seconds > 0
        assert not evaluation.diverged


@pytest.mark.parametrize("recipe", [RECIPE, LEARNED], ids=["fixed", "learned"])
@pytest.mark.parametrize("runtime", ["onnx-int8", "litert-int8"])
def test_nothing_compiles_where_the_files_of_sliced_networks_are_judged(graph, runtime, recipe):
    config = replace(CONFIG, validation=runtime)
    evaluator = NetworkEvaluator(graph, DATA, CostModel(graph), config, SEED, True, recipe)
    assert evaluator.choice.runtime == runtime
    evaluator.evaluate(Policy.uniform(graph, 0.9, 7, 7))
    before = compilations()
    for policy in policies(graph, 6):
        assert not evaluator.evaluate(policy).diverged
    assert compilations() == before


def test_a_file_that_its_runtime_cannot_run_is_worth_nothing(graph, monkeypatch):
    config = replace(CONFIG, validation="onnx-int8")
    evaluator = NetworkEvaluator(graph, DATA, CostModel(graph), config, SEED, True, RECIPE)
    policy = Policy.uniform(graph, 0.9, 7, 7)

    def refuses(*_):
        raise FileError("the model cannot be run")

    judge = evaluator._runtimes["onnx-int8"].judge
    monkeypatch.setattr(type(evaluator._runtimes["onnx-int8"]), "judge", refuses)
    with pytest.raises(FileError):  # nothing says that it can run any network of this kind
        evaluator.evaluate(policy)
    monkeypatch.setattr(type(evaluator._runtimes["onnx-int8"]), "judge", staticmethod(judge))
    assert evaluator.evaluate(policy).accuracy > 0
    monkeypatch.setattr(type(evaluator._runtimes["onnx-int8"]), "judge", refuses)
    found = evaluator.evaluate(policies(graph, 1)[0])
    assert found.diverged
    assert found.accuracy == 0


def test_equal_policies_get_equal_accuracies(graph, evaluator):
    policy, other = policies(graph, 2)
    first = evaluator.evaluate(policy)
    evaluator.evaluate(other)
    again = evaluator.evaluate(Policy.from_json(json.loads(json.dumps(policy.to_json()))))
    assert again.accuracy == first.accuracy
    assert again.costs == first.costs


def test_a_search_reads_neither_the_test_split_nor_one_image_twice(evaluator):
    def rows(images, labels):
        return {image.tobytes() for image in images[: len(labels)]}

    reward, held_out = (
        set().union(*(rows(*batch) for batch in evaluator.images[name]))
        for name in ("reward", "held_out")
    )
    assert [len(reward), len(held_out)] == [264, 66]
    assert not reward & held_out
    search = {image.tobytes() for image in DATA.normalize(DATA.search.images)}
    train = {image.tobytes() for image in DATA.normalize(DATA.train.images)}
    assert reward | held_out == search
    assert not search & train
    # The data set of all these tests raises if its test split is opened.
    with pytest.raises(AssertionError, match="the test split was opened"):
        DATA.open_test()


@pytest.mark.parametrize(("size", "count", "used"), [(330, 2_000, 264), (330, 100, 100), (5, 9, 4)])
def test_search_images_are_shared_out_evenly(size, count, used):
    labels = np.arange(size, dtype=np.int32)
    reward, held_out = split_search(Split(labels[:, None, None, None], labels), count)
    assert len(reward) == used
    assert sorted([*reward.labels, *held_out.labels]) == list(range(size))
    # Sorted classes: neither part is all from one end.
    assert abs(reward.labels.mean() - (size - 1) / 2) <= 0.5 + size / 100


# A network of one half-empty group each, its statistics computed with a plain loop.
def test_statistics_are_the_base_networks_changed_as_those_of_the_images(graph, evaluator):
    policy = Policy.uniform(graph, 0.5)
    small = compress(graph.source, policy, graph=graph)
    found = evaluator.network(policy).variables
    batches = [x for x, _ in replayed_batches()[1]]
    assert len(batches) == 2

    def over_batches(variables, name):
        return np.mean([statistics(variables, x)[name] for x in batches], axis=0)

    names = ("bn1.mean", "bn1.var", "bn2.mean", "bn2.var")
    for name in names:
        kept = small.kept[name.replace("bn", "conv").partition(".")[0]]
        own, now = small.variables[name], over_batches(small.variables, name)
        seen = over_batches(graph.source.variables, name)[kept]
        little = 0.001 * own
        factor = (now + little) / (seen + little)
        assert found[name].shape == (4,)
        expected = own + now - seen if "mean" in name else own * factor
        assert np.allclose(found[name], expected, rtol=1e-3, atol=1e-4)
    untouched = set(small.variables) - set(names)
    assert all(np.array_equal(found[name], small.variables[name]) for name in untouched)


def test_the_base_network_keeps_its_statistics(graph, evaluator):
    found = evaluator.network(Policy.uniform(graph)).variables
    own = graph.source.variables
    assert all(np.allclose(found[name], own[name], rtol=1e-5, atol=1e-6) for name in own)


def test_images_that_the_network_does_not_know_leave_its_statistics_alone(graph, caplog):
    """White pictures of an otherwise dark world: nothing of the statistics can be told by them."""
    bright = replace(DATA, mean=(-3.0,))
    with caplog.at_level("INFO", "pfrl"):
        found = NetworkEvaluator(graph, bright, CostModel(graph), CONFIG, SEED, False, RECIPE)
    assert not found._training.base.familiar
    assert "are left as they are" in caplog.text
    policy = Policy.uniform(graph, 0.5)
    small = compress(graph.source, policy, graph=graph)
    tuned = found.network(policy).variables
    assert all(np.array_equal(tuned[name], small.variables[name]) for name in small.variables)


def replayed_batches():
    """The batches of an evaluation: of its fine-tuning, and those for the statistics."""
    rng = np.random.default_rng([SEED, 1])
    tuning = list(DATA.training_batches(CONFIG.batch, rng, CONFIG.steps))
    return tuning, list(DATA.training_batches(CONFIG.batch, rng, 2))


@jax.jit
def statistics(variables, x):
    """Batch means and variances in ``TwoConvs``."""
    found = {}
    for number, stride in ((1, 1), (2, 2)):
        x = jax.lax.conv_general_dilated(
            x,
            variables[f"conv{number}.kernel"],
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        name = f"bn{number}"
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        found |= {f"{name}.mean": mean, f"{name}.var": variance}
        x = (x - mean) / jnp.sqrt(variance + 1e-5)
        x = jax.nn.relu(x * variables[f"{name}.scale"] + variables[f"{name}.bias"])
    return found


# What the search judges is what one gets: the same steps on the sliced network, in a plain loop.
def test_an_evaluation_is_what_the_sliced_network_does(graph, evaluator):
    bits = {"conv1": 8, "conv2": 6, "linear": 8}
    policy = Policy({"conv1": 0.5, "conv2": 0.75}, bits, bits)
    small = evaluator.network(policy)
    variables = small.variables
    trainable = graph.source.trainable
    optimizer = sgd(CONFIG.learning_rate, CONFIG.weight_decay)
    step = jax.jit(make_train_step(small.apply, optimizer, ghosts=2))
    parameters = {name: jnp.asarray(v) for name, v in variables.items() if name in trainable}
    kept = {name: v for name, v in variables.items() if name not in trainable}
    state = TrainState(parameters, kept, optimizer.init(parameters))
    for x, labels in replayed_batches()[0]:
        state, _ = step(state, x, labels, None)
    after = {**state.parameters, **state.statistics}
    logits = partial(jax.jit(lambda v, x: small.apply(v, x, False)[0]), after)
    for images, part in zip(
        ("reward", "held_out"), split_search(DATA.search, CONFIG.search_images), strict=True
    ):
        expected = mean_quality(logits, DATA, part)
        found = evaluator.score(policy, images).quality
        # A value at the border of two steps of a grid may fall on either side: two images' worth.
        assert found == pytest.approx(expected, abs=2.5 / len(part))
        assert found > 0.4, "it learns: chance is a quarter"


def test_ranges_are_the_mean_extremes_of_training_batches(evaluator, graph):
    rng = np.random.default_rng([SEED, 2])
    batches = [x for x, _ in DATA.training_batches(64, rng, 2)]
    low, high = (np.mean([extreme(x) for x in batches]) for extreme in (np.min, np.max))
    ranges = evaluator.statistics.ranges(Policy.uniform(graph, 1.0, 8, 8))
    assert ranges["conv1"] == pytest.approx((low, high), rel=1e-6)
    assert list(ranges) == [site.name for site in graph.sites]
    # Behind a ReLU nothing is below zero.
    assert ranges["conv2"][0] == 0
    assert ranges["conv2"][1] > 0


def test_recorded_evaluations_are_answered_in_order(graph, evaluator):
    tried = policies(graph, 3)
    recorded = [Evaluation(0.1 * i, {"macs": i}, 1.0, False) for i in range(2)]
    evaluator = Recorded(evaluator)
    evaluator.resume(zip([p.to_json() for p in tried], recorded, strict=False))
    before = dict(evaluator.seconds)
    assert [evaluator.evaluate(tried[0]), evaluator.evaluate(tried[1])] == recorded
    assert evaluator.seconds == before
    # The records are used up: now it works again.
    assert evaluator.evaluate(tried[2]).costs == CostModel(graph).of(tried[2])
    assert evaluator.seconds["training"] > before["training"]
    assert evaluator.seconds["validation"] > before["validation"]


def test_the_record_of_another_search_is_refused(graph, evaluator):
    recorded, other = policies(graph, 2)
    evaluator = Recorded(evaluator)
    evaluator.resume([(recorded.to_json(), Evaluation(0.5, {}, 1.0, False))])
    with pytest.raises(RecordError, match="other decisions than this one; resume with the same"):
        evaluator.evaluate(other)


def test_a_diverging_evaluation_is_an_evaluation(graph):
    config = EpisodeConfig(steps=4, batch=32, learning_rate=1e30, statistics_images=32)
    evaluator = NetworkEvaluator(graph, DATA, CostModel(graph), config, SEED, quantized=False)
    policy = Policy.uniform(graph, 0.5)
    evaluation = evaluator.evaluate(policy)
    assert evaluation.diverged
    assert evaluation.accuracy == 0.0
    assert evaluation.costs == CostModel(graph).of(policy)
    judged = evaluator.score(policy, "held_out")
    assert (judged.quality, judged.finite) == (0.0, False)
    assert not evaluator.statistics.inputs


@pytest.mark.parametrize(
    ("backend", "shape", "fidelity"),
    [
        ("cpu", (128, 128, 3), "finetune"),
        ("cpu", (224, 224, 3), "reconstruct"),
        ("cpu", (512, 192), "finetune"),  # tokens, no picture
        ("gpu", (224, 224, 3), "finetune"),
    ],
)
def test_an_evaluation_trains_where_a_step_does_not_take_seconds(
    backend, shape, fidelity, monkeypatch
):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert EpisodeConfig().suited(shape, REPAIRED, altered=False).fidelity == fidelity
    assert EpisodeConfig("supernet").suited(shape, PLAIN, altered=True).fidelity == "supernet"


@pytest.mark.parametrize(
    ("recipe", "altered", "steps"), [(REPAIRED, False, 4), (REPAIRED, True, 16), (PLAIN, False, 16)]
)
def test_an_evaluation_trains_little_where_a_repair_has_done_most(recipe, altered, steps):
    shape = (32, 32, 3)
    assert EpisodeConfig("finetune").suited(shape, recipe, altered).tuning_steps == steps
    assert EpisodeConfig("finetune", 7).suited(shape, recipe, altered).tuning_steps == 7
    assert EpisodeConfig("reconstruct").suited(shape, recipe, altered).tuning_steps == 0

"""Fidelities of an evaluation, who judges it, when judging stops, and what is kept of it."""

import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe
from pfrl.cost import CostModel
from pfrl.deploy.runtimes.base import REFERENCE, RUNTIMES, Runtime
from pfrl.deploy.runtimes.openvino import precisions
from pfrl.deploy.runtimes.xla import in_parts
from pfrl.evaluation import evaluator as evaluation
from pfrl.evaluation import remembered, validation
from pfrl.evaluation.base import Choice
from pfrl.evaluation.compilations import compilations
from pfrl.evaluation.config import EpisodeConfig
from pfrl.evaluation.early_stopping import DOUBT, Bound, Race
from pfrl.evaluation.evaluator import NetworkEvaluator
from pfrl.evaluation.make import make_evaluator
from pfrl.evaluation.validation import batched, choose_runtime
from pfrl.graph import trace
from pfrl.registry import RegistryError, _items, register
from pfrl.tasks.judging import Judged, validate
from tests.support.tiny import TwoConvs, at_home, made, shape, stripes

DATA = stripes()
RECIPE = Recipe(repair="least_squares", images=128)
KEEPS = (1.0, 0.8, 0.6, 0.4)
FLOATING = [name for name, each in RUNTIMES.items() if name != REFERENCE and not each.integers]
INTEGERS = [name for name, each in RUNTIMES.items() if each.integers]


@pytest.fixture(scope="module")
def graph():
    return at_home(trace(made(TwoConvs, seed=2), shape(2, 8, 8, 1)), DATA)


def evaluator(graph, seed=3, recipe=RECIPE, cache=None, alone=False, **config) -> Any:
    settings = {"batch": 32, "statistics_images": 64, "validation": "xla", **config}
    episode = EpisodeConfig(**settings)
    costs = CostModel(graph)
    plain = NetworkEvaluator(graph, DATA, costs, episode, seed, False, recipe, False, cache)
    return plain if alone else make_evaluator(plain, cache)


@pytest.fixture(scope="module")
def reconstructed(graph) -> list[float]:
    """Accuracies of the policies by XLA after reconstruction, found once for all tests."""
    return accuracies(evaluator(graph, fidelity="reconstruct"), graph)


def policies(graph):
    return [Policy.uniform(graph, keep) for keep in KEEPS]


def accuracies(found, graph):
    return [found.evaluate(policy).accuracy for policy in policies(graph)]


@pytest.mark.parametrize("runtime", FLOATING)
def test_all_runtimes_give_the_same_accuracies(graph, runtime, reconstructed):
    """But for one of 264 images whose two best outputs are equal to the last digit."""
    if runtime == "openvino-bf16" and "bf16" not in precisions():
        pytest.skip("this processor has no products of bfloat16")
    ours = reconstructed
    theirs = accuracies(evaluator(graph, fidelity="reconstruct", validation=runtime), graph)
    assert len(set(ours)) > 1
    np.testing.assert_allclose(ours, theirs, atol=1.5 / 264)


def test_rounded_networks_are_judged_as_the_files_that_are_handed_over(graph):
    """Each by its integers, which a rounding of a sum may set apart from the simulation."""
    found = {}
    for runtime in (REFERENCE, *INTEGERS, "onnx"):
        config = EpisodeConfig("reconstruct", batch=32, statistics_images=64, validation=runtime)
        made = NetworkEvaluator(graph, DATA, CostModel(graph), config, 3, True, RECIPE)
        rounded = [Policy.uniform(graph, keep, 7, 8) for keep in KEEPS]
        found[made.choice.runtime] = [made.evaluate(policy).accuracy for policy in rounded]
    assert found.keys() == {REFERENCE, *INTEGERS}, "files of floats judge no rounded network"
    for runtime in INTEGERS:
        np.testing.assert_allclose(found[runtime], found[REFERENCE], atol=4.5 / 264)


@pytest.fixture
def wait(monkeypatch):
    """A function that lets seconds pass on the clock by which runtimes are timed."""
    now = [0.0]

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(validation, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return pass_by


def test_a_file_of_integers_may_judge_where_it_answers_as_its_simulation(wait):
    images = [(np.zeros((250, 1)), np.zeros(250, int))] * 4

    def judge(outputs, right) -> Any:
        return lambda: lambda x: np.where(np.arange(250)[:, None] < right, [outputs], [[0.0, 1.0]])

    choose = partial(choose_runtime, images=images, task=DATA.task, integers=True)
    simulated, slow = judge((1.0, 0.0), 200), judge((1.0, 0.0), 199)
    waiting = {"xla": lambda: wait(0.05) or simulated()}
    chosen = choose({**waiting, "onnx-int8": slow})
    assert (chosen.runtime, chosen.agreement) == ("onnx-int8", 1 - 1 / 250)
    assert chosen.difference == pytest.approx(-1 / 250)
    assert choose({**waiting, "onnx-int8": judge((1.0, 0.0), 190)}).runtime == "xla"


def test_an_unknown_runtime_is_refused_with_those_that_there_are():
    with pytest.raises(RegistryError, match=r"unknown runtime 'tvm'; .* onnx, .*openvino"):
        EpisodeConfig(validation="tvm")


class Shifted(Runtime):
    """A runtime of a user's that answers with the class beside the best one."""

    title = "Shifted"

    def judge(self, function, input_shape):
        return lambda images: np.roll(np.asarray(function(images)), 1, axis=-1)


@pytest.fixture
def shifted():
    register("runtime", "shifted", Shifted())
    yield
    del _items["runtime"]["shifted"]


def test_a_runtime_of_a_user_judges_by_its_name(graph, shifted, reconstructed):
    shifting = evaluator(graph, fidelity="reconstruct", validation="shifted")
    wrong = shifting.evaluate(policies(graph)[0]).accuracy
    assert wrong <= 1 - reconstructed[0]


def test_reconstruction_is_finetuning_without_a_step(graph, reconstructed):
    none = accuracies(evaluator(graph, steps=0), graph)
    assert reconstructed == none
    plain = evaluator(graph, fidelity="reconstruct", recipe=Recipe(images=128))
    assert accuracies(plain, graph) == none


def test_a_shared_network_is_trained_once_and_read_back(graph, tmp_path, monkeypatch):
    config = {"fidelity": "supernet", "supernet_steps": 60, "supernet_learning_rate": 0.05}
    cache = tmp_path / "evaluations.sqlite"
    first = evaluator(graph, cache=cache, alone=True, **config)
    found = accuracies(first, graph)
    before = compilations()
    first.score(Policy.uniform(graph, 0.3), "reward")
    assert compilations() == before
    untrained = accuracies(evaluator(graph, fidelity="finetune", steps=0, recipe=Recipe()), graph)
    assert found[-1] > untrained[-1]
    monkeypatch.setattr(evaluation, "train_supernet", lambda *_: pytest.fail("trained again"))
    again = evaluator(graph, cache=cache, alone=True, **config)
    assert accuracies(again, graph) == found
    assert 0 == first.spent_before < again.spent_before < first.seconds["training"]


def test_hoeffdings_bound():
    """After 100 images with half of them right: 0.5 + sqrt(ln(1000) / 200) = 0.5 + 0.18585."""
    assert math.isclose(math.sqrt(math.log(1 / DOUBT) / 200), 0.18585, abs_tol=1e-5)
    half = np.arange(100) % 2
    assert Bound(0.686)(half)
    assert not Bound(0.685)(half)
    assert not Bound()(np.zeros(10_000))


def test_a_race_is_decided_by_the_difference_on_common_images():
    """Two of 4 images that the best has right and the other has not: 0.5 > 1.5 · 0.5 / 2, and of
    all 8 images the best has 0.75 right, so the other is expected at 0.25."""
    best = np.array([1, 1, 1, 0, 1, 1, 1, 0.0])
    race, same = Race(), best[:4]
    assert not race(np.zeros(4))
    race.take(Judged(0.75, True, True, best))
    lost = np.array([0, 1, 0, 0.0])
    assert race(lost) and not race(same)
    assert race.estimate(lost) == 0.25
    # One lost, which may be chance: 0.25 < 1.5 · 0.433 / 2. One lost and one won: no difference.
    assert not race(np.array([1, 1, 0, 0.0])) and not race(np.array([1, 1, 0, 1.0]))
    race.take(Judged(0.7, True, True, np.ones(8)))
    assert race.best == 0.75


def test_a_race_whose_best_is_on_record_goes_on_as_it_would_have(graph):
    config: dict[str, Any] = {"fidelity": "reconstruct", "early_stop": "race"}
    first, again = evaluator(graph, **config), evaluator(graph, **config)
    found = [first.evaluate(policy) for policy in policies(graph)]
    records = zip((p.to_json() for p in policies(graph)), found, strict=True)
    again.resume(list(records)[:2])
    resumed = [again.evaluate(policy) for policy in policies(graph)]
    assert [e._replace(seconds=0) for e in resumed] == [e._replace(seconds=0) for e in found]
    assert not all(evaluation.exact for evaluation in found)
    assert all(e.accuracy < max(x.accuracy for x in found if x.exact) for e in found if not e.exact)


def test_a_validation_below_the_bound_ends_early_and_is_not_kept(graph, tmp_path):
    cache = tmp_path / "evaluations.sqlite"
    stopping = evaluator(graph, cache=cache, fidelity="reconstruct", early_stop="bound")
    exact = stopping.evaluate(policies(graph)[0])
    assert exact.exact
    # As if a network had been found before that is right every time.
    stopping.resume([(policies(graph)[0].to_json(), exact._replace(accuracy=1.0))])
    stopping.evaluate(policies(graph)[0])
    low = Policy.uniform(graph, 0.2)
    found = stopping.evaluate(low)
    assert not found.exact
    assert exact.images == stopping.images_each == 64 + 264
    assert found.images == 64 + 150
    assert found.accuracy == pytest.approx(round(found.accuracy * 150) / 150)
    whole = evaluator(graph, cache=cache, fidelity="reconstruct")
    assert whole.evaluate(low).exact
    assert whole.hits == 0


def test_validation_counts_all_images_or_as_many_as_it_takes():
    images = [(np.zeros((250, 1)), np.zeros(250, int)), (np.zeros((250, 1)), np.zeros(50, int))]

    def judge(right):
        return lambda x: np.where(np.arange(250)[:, None] < right, [[1.0, 0.0]], [[0.0, 1.0]])

    assert validate(judge(50), images, DATA.task).quality == 100 / 300
    assert validate(judge(50), images, DATA.task, Bound(0.9))[:3] == (50 / 250, True, False)
    assert validate(judge(50), images, DATA.task, Bound(0.3))[:3] == (100 / 300, True, True)


def test_the_faster_runtime_is_taken_if_it_agrees(wait):
    images = [(np.ones((250, 1)), np.zeros(250, int))]

    def slow() -> Any:
        return lambda x: wait(2.0) or x @ np.ones((1, 2))

    def fast(value) -> Any:
        return lambda: lambda x: wait(1.0) or x @ np.full((1, 2), value)

    found = choose_runtime({"xla": slow, "onnx": fast(1.0)}, images, DATA.task)
    assert isinstance(found, Choice)
    assert found.runtime == "onnx"
    assert found.seconds == {"xla": 2.0, "onnx": 1.0}
    assert found.difference == 0
    assert choose_runtime({"xla": slow, "onnx": fast(2.0)}, images, DATA.task)[::2] == ("xla", None)


def test_what_disturbs_one_pass_decides_nothing(wait):
    """Runtimes take turns, and their shortest time counts; who is far behind is not timed again."""
    images = [(np.ones((250, 1)), np.zeros(250, int))]
    asked = dict.fromkeys(("xla", "onnx", "openvino"), 0)

    def judge(name, *seconds) -> Any:
        def run(x):
            wait(seconds[min(asked[name], len(seconds) - 1)])
            asked[name] += 1
            return x @ np.ones((1, 2))

        return lambda: run

    judges = {
        "xla": judge("xla", 1.9),
        "onnx": judge("onnx", 1.0, 1.7, 1.7, 1.0),  # other work in its first turn
        "openvino": judge("openvino", 4.0),
    }
    found = choose_runtime(judges, images, DATA.task)
    assert found.runtime == "onnx"
    assert found.seconds == pytest.approx({"xla": 1.9, "onnx": 1.0, "openvino": 4.0})
    # Once to be made, and twice a turn; all images again of those that are compared.
    assert asked == {"xla": 1 + 3 * 2 + 1, "onnx": 1 + 3 * 2 + 1, "openvino": 1 + 2}


def test_a_runtime_with_other_outputs_or_other_answers_gives_way_to_the_next(wait):
    images = [(np.ones((250, 1)), np.zeros(250, int))]

    def judge(seconds, outputs, right) -> Any:
        def run(x):
            wait(seconds)
            return np.where(np.arange(250)[:, None] < right, [outputs], [outputs[::-1]])

        return lambda: run

    first = {"xla": judge(0.02, (1.0, 0.999), 200)}
    other_outputs = {"onnx": judge(0.0, (2.0, 1.0), 200)}
    other_answers = {"openvino-bf16": judge(0.001, (1.0, 0.999), 199)}
    same = {"openvino": judge(0.005, (1.0, 0.9991), 200)}
    choose = partial(choose_runtime, images=images, task=DATA.task)
    assert choose(first | other_outputs | other_answers | same).runtime == "openvino"
    assert choose(first | other_outputs | other_answers).runtime == "xla"


def test_xla_judges_a_batch_in_parts_of_one_shape():
    asked = []

    def double(x):
        asked.append(len(x))
        return 2 * x

    for count in (150, 50, 149):
        x = np.arange(count, dtype=np.float32)
        assert np.array_equal(in_parts(double)(x), 2 * x)
    assert asked == [50, 50, 50, 50, 149]


def test_a_second_start_judges_and_measures_nothing_that_is_known(graph, tmp_path, monkeypatch):
    monkeypatch.setenv("PFRL_CACHE", str(tmp_path))
    asked = []

    def counted(name, function):
        return lambda *arguments: asked.append(name) or function(*arguments)

    monkeypatch.setattr(evaluation, "choose_runtime", counted("runtime", choose_runtime))
    monkeypatch.setattr(remembered, "mean_quality", counted("quality", remembered.mean_quality))
    found = []
    for _ in range(2):
        one = evaluator(graph, fidelity="reconstruct", validation="auto", search_images=32)
        found.append((one.choice, remembered.base_quality(graph, DATA)))
    assert found[0] == found[1] and asked == ["runtime", "quality"]
    # Neither is known of other images, and nobody knows what a runtime of the user's does.
    other = replace(DATA, search=DATA.search.take(slice(8)))
    remembered.base_quality(graph, other)
    own: Any = {"mine": _Mine()}
    for _ in range(2):
        remembered.choice(graph, DATA, RECIPE, [], own, counted("own", lambda: Choice("mine", {})))
    assert asked[2:] == ["quality", "own", "own"]


class _Mine:
    """A runtime of the user's."""


@pytest.mark.parametrize(
    ("images", "batches", "size"), [(1, 1, 50), (60, 1, 100), (288, 2, 150), (500, 2, 250)]
)
def test_batches_leave_little_to_be_filled_up(images, batches, size):
    found = batched(DATA, DATA.train.take(np.arange(images) % len(DATA.train)))
    assert [len(x) for x, _ in found] == [size] * batches
    assert sum(len(targets) for _, targets in found) == images


def test_large_images_are_judged_few_at_a_time():
    images = np.zeros((60, 182, 182, 1), np.uint8)
    large = replace(DATA, train=replace(DATA.train, images=images, labels=np.zeros(60, int)))
    assert [len(x) for x, _ in batched(large, large.train)] == [50, 50]

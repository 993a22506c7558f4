"""The bench: its sums by hand, its networks alike, a search of a few episodes on its clocks."""

import json
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks import bench, ratios
from benchmarks.bench import BenchSettings, Mark, SearchTimes, open_problem, summarize, time_search
from benchmarks.memory import Memory, follow
from benchmarks.memory import summarize as summarize_memory
from benchmarks.ratios import forward_ratios, training_ratios, with_flax_norms
from benchmarks.repairs import time_repairs
from benchmarks.summary.feeding import feed
from benchmarks.summary.rows import Row, cells
from benchmarks.throughput import Throughput
from benchmarks.tracing import Traced, growth, time_traces
from envs import OpenedTask, Problem, Task
from experiments.studies.sweep.quality import search_quality
from pfrl.cost import Budget, CostModel
from pfrl.data import DataError
from pfrl.evaluation.config import EpisodeConfig
from pfrl.evaluation.evaluator import NetworkEvaluator
from pfrl.evaluation.make import make_evaluator
from pfrl.graph import from_nnx, trace
from pfrl.models.catalogue import ModelError
from tests.support.tiny import TwoConvs, made, shape, stripes

TIMES = SearchTimes(7.5, 3.0, 3, {"training": 0.5, "validation": 0.25, "other": 0.25}, 0, 1.5)


@dataclass(frozen=True)
class TinyTask(Task):
    """Two convolutions on stripes."""

    def open(self) -> OpenedTask:
        graph = trace(made(TwoConvs), shape(1, 8, 8, 1))
        costs = CostModel(graph)
        config = EpisodeConfig(steps=2, batch=16, statistics_images=16, search_images=250)
        plain = NetworkEvaluator(graph, stripes(), costs, config, 0, quantized=False)
        return OpenedTask(graph, costs, make_evaluator(plain), 0.25)


def test_times_between_marks():
    """Before the search, and after episodes of 10, 2, 3 and 5 seconds; the first compiles."""
    marks = [
        Mark(100.0, 1.0, 2.0, 5),
        Mark(110.0, 4.0, 4.0, 45),
        Mark(112.0, 5.0, 4.5, 45),
        Mark(115.0, 7.0, 5.0, 46),
        Mark(120.0, 9.0, 6.5, 46),
    ]
    assert summarize(marks, 1.25) == SearchTimes(
        first=10.0,
        later=3.0,
        episodes=3,
        shares={"training": 0.5, "validation": 0.25, "other": 0.25},
        compilations=1,
        peak_gib=1.25,
    )


def test_traces_are_counted_and_their_growth_is_an_exponent():
    (found,) = time_traces(["resnet8"], 2)
    assert (found.name, found.layers, found.groups) == ("resnet8", 8, 6)
    assert found.seconds > 0
    # Four times the layers in eight times the time: 4 to the power of 3/2.
    assert growth([Traced("a", 5, 1, 0.1), Traced("b", 20, 1, 0.8)]) == pytest.approx(1.5)


def test_a_search_is_timed_and_compiles_in_its_first_episode_only():
    problem = Problem(TinyTask(), budget=Budget.parse("macs=0.5"))
    times = time_search(problem, 5, seed=0)
    assert times.episodes == 4
    assert times.compilations == 0
    assert times.first > times.later > 0
    assert all(0 < share < 1 for share in times.shares.values())
    assert sum(times.shares.values()) == pytest.approx(1)
    # A process with JAX and torch in it.
    assert 0.1 < times.peak_gib < 16


def test_memory_is_followed_from_the_second_quarter_on():
    """Eight episodes; quarters of two: 410 and 412 MiB, and 430 and 436 MiB four later."""
    found = summarize_memory([100, 300, 410, 412, 415, 420, 430, 436], 512.0)
    assert found == Memory(8, 512.0, 411, 433, 100 * 22 / 4)
    after, most = follow(Problem(TinyTask(), budget=Budget.parse("macs=0.5")), "random", 4, seed=0)
    assert len(after) == 4
    # A process with JAX and torch in it.
    assert 100 < min(after) <= max(after) <= most < 16_000


def test_flaxs_normalisation_is_put_in_everywhere():
    """Same outputs and statistics in training, so the ratio compares like with like."""
    model = made(TwoConvs)
    changed = with_flax_norms(model)
    kinds = [type(node) for _, node in nnx.iter_graph(changed)]
    assert kinds.count(nnx.BatchNorm) == 2
    assert ratios.BatchNorm not in kinds
    assert isinstance(model.bn1, ratios.BatchNorm)
    ours, theirs = from_nnx(model), from_nnx(changed)
    assert ours.variables.keys() == theirs.variables.keys()
    assert ours.trainable == theirs.trainable
    x = np.random.default_rng(0).normal(size=(6, 8, 8, 1)).astype(np.float32)

    @jax.jit
    def both(variables, x):
        return ours.apply(variables, x, True), theirs.apply(variables, x, True)

    one, other = both(ours.variables, jnp.asarray(x))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, other)


def test_ratios_are_of_the_networks_that_they_name():
    rng = np.random.default_rng(0)
    model = made(TwoConvs)
    found = training_ratios(model, (8, 8, 1), 8, 3, rng)
    forward, seconds = forward_ratios(model, (8, 8, 1), 8, 3, rng)
    assert seconds > 0
    assert [ratio.what.split(":")[1] for ratio in (*found, *forward)] == [
        " masked program / the nnx network",
        " nnx.BatchNorm / hand-written",
        " XLA, masked / ONNX Runtime, sliced, {} thread(s)".format(ratios.machine()["cores"]),
    ]
    assert all(0 < ratio.low <= ratio.value <= ratio.high for ratio in (*found, *forward))


def test_a_ratio_is_the_first_over_the_second():
    """Against a function that does the same work twenty times."""
    block = np.random.default_rng(0).random((120, 120))
    runs = {"one": lambda: block @ block, "twenty": lambda: [block @ block for _ in range(20)]}
    (found,) = ratios.ratios(runs, [("many / one", "twenty", "one")], 9, np.random.default_rng(0))
    assert found.what == "many / one"
    assert 4 < found.value < 100


def test_without_weights_or_data_there_is_no_problem(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="no weights of lenet5 for digits"):
        open_problem("lenet5", "digits", 0)
    monkeypatch.setattr(bench, "pretrained_path", lambda model, data: tmp_path / "weights.npz")
    monkeypatch.setattr(bench, "FASHION_FOLDERS", (tmp_path,))
    monkeypatch.setenv("PFRL_DATA", str(tmp_path))
    with pytest.raises(DataError, match="not on this machine"):
        open_problem("resnet20", "fashion_mnist", 0)


def test_a_row_has_its_cells():
    row = Row("a / b", 12.5, "s", 1.5, (1.25, 2.0), {"one": 0.5, "two": 12.0}, 512.0)
    expected = ("a / b", "12.5 s", "1.50", "1.25 to 2.00", "one 0.500, two 12.0", "512", "avx2")
    assert cells(row, "avx2") == expected
    assert cells(Row("growth", 1.0), "avx2") == ("growth", "1.00", *["–"] * 4, "avx2")


def test_one_table_of_what_could_be_measured(monkeypatch, capsys, tmp_path):
    def missing():
        raise ImportError("No module named 'torch_pruning'")
        yield

    parts = {"searches": lambda: [Row("a search", 3.0, "s")], "peers": missing}
    monkeypatch.setattr(bench, "parts_of", lambda settings: parts)
    bench.main(["--quick", "--out", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert ["a", "search", "3.00", "s"] in [line.split()[:4] for line in lines]
    left_out = "Left out: peers, for No module named 'torch_pruning'."
    assert left_out in lines and left_out in (tmp_path / "bench.md").read_text()
    data = json.loads((tmp_path / "bench.json").read_text())
    assert [row["figure"] for row in data["rows"]] == [3.0]
    assert data["instruction_set"] == ratios.machine()["instruction_set"]


def test_rows_are_what_was_measured(monkeypatch):
    settings = BenchSettings(quick=True)
    monkeypatch.setattr(bench, "open_problem", lambda *arguments: None)
    monkeypatch.setattr(bench, "time_search", lambda problem, episodes, seed: TIMES)
    _, later = bench.search_rows(settings, "resnet8", "digits")
    assert later.figure == 3.0 and later.peak == 1536
    assert later.parts == {"training": 1.5, "validation": 0.75, "other": 0.75}
    compared = [Throughput("resnet20", "PyTorch", 64, 800.0, 1.0, 1.0, 1.0)]
    compared.append(Throughput("resnet20", "ours", 64, 600.0, 0.75, 0.7, 0.8))
    monkeypatch.setattr(bench, "throughputs", lambda settings: compared)
    theirs, ours = bench.throughput_rows(settings)
    assert (theirs.figure, theirs.ratio) == (800.0, None)
    assert ours == Row("training resnet20, batch 64, ours / PyTorch", 600.0, "images/s", 0.75,
                       (0.7, 0.8))  # fmt: skip
    traced = [Traced("resnet20", 20, 12, 0.1), Traced("resnet110", 110, 57, 0.55)]
    monkeypatch.setattr(bench, "time_traces", lambda names, repeats: traced)
    # 5.5 times the layers in 5.5 times the seconds.
    assert [*bench.tracing_rows(settings)][-1].figure == pytest.approx(1)


@pytest.mark.slow
def test_a_step_waits_for_a_share_of_its_time():
    found = feed("resnet8", 2, 0)
    assert found.images == 128
    assert found.waiting > 0 and found.computing > 0 and 0 < found.share < 1


def test_repairs_are_timed():
    (found,) = time_repairs(["resnet8"], 100, 2, 0)
    assert (found.name, found.images) == ("resnet8", 100)
    assert found.gathering > 0
    assert 0 < found.solving <= found.slowest


def test_quality_a_second_is_a_row_a_searcher():
    goal, rows = search_quality(Problem(TinyTask(), budget=Budget.parse("macs=0.5")), 3, (0,),
                                ("random", "uniform"))  # fmt: skip
    assert [row.agent for row in rows] == ["random", "uniform"]
    assert goal == min(row.final for row in rows)
    # Two steps of 16 images, 16 for statistics and 250 to judge.
    assert all(row.taken.images == 298 * row.taken.evaluations for row in rows)

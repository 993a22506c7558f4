"""Measuring latency: order, intervals and ratios; the table of single layers."""

import json
import subprocess
import sys
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from pfrl.cost.latency_table import (
    Grid,
    LatencyTable,
    LayerGrids,
    LayerShape,
    layer_file,
    measure_table,
)
from pfrl.cpu.processor import instruction_set
from pfrl.deploy import timing
from pfrl.deploy.layer_times import layer_times
from pfrl.deploy.litert.check import computed
from pfrl.deploy.memory import GIB, Limits, limits_of, peak_memory, watched
from pfrl.deploy.onnx.export import export_onnx
from pfrl.deploy.runtimes.base import Unavailable, file_runtime
from pfrl.deploy.timing import (
    Measurement,
    interleave,
    latency_ratio,
    measure,
    measure_interleaved,
    median_interval,
    ratios_to,
)
from pfrl.files import FileError
from tests.support.flat import dense

CONV = LayerShape("conv", (3, 3), (1, 1), ((1, 1), (1, 1)), 1, 14, 14, 32, 32)
DENSE = LayerShape("dense", c_in=8, c_out=10)

# Blocks of 16: output counts are rounded up to 16 or 32; 17..31 inputs are slow unless
# they are multiples of 4.
TABLE = LatencyTable(
    layers={
        CONV: LayerGrids(
            Grid((8, 16, 32), (16, 32), ((1.0, 2.0), (2.0, 4.0), (4.0, 8.0))),
            Grid((17, 31), (16, 32), ((6.0, 9.0), (8.0, 13.0))),
        ),
        DENSE: LayerGrids(Grid((4, 8), (10,), ((0.25,), (0.5,))), None),
    },
    overhead_ms=0.125,
    block=16,
    threads=1,
    batch=1,
    runtime_version="1.32.0",
    instruction_set="avx512f",
)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A network with a small and one with a large matrix product."""
    folder = tmp_path_factory.mktemp("networks")
    paths = {}
    for name, width in {"small": 4, "large": 20000}.items():
        kernel = np.random.default_rng(0).normal(size=(16, width)).astype(np.float32)
        paths[name] = export_onnx(lambda x, k=kernel: x @ k, (16,), folder / f"{name}.onnx")
    return paths


def measured(*rounds):
    return Measurement(2.0, 1.0, 3.0, 1, 1, "onnxruntime", "1.32.0", "avx2", 30, rounds)


def test_a_measurement_says_what_was_measured_on_what(networks):
    result = measure(networks["small"], batch=2, seconds=0.05)
    assert 0 < result.low_ms <= result.median_ms <= result.high_ms < 50
    assert (result.threads, result.batch, result.runtime) == (1, 2, "onnxruntime")
    assert result.repeats >= len(result.rounds_ms) >= 15
    plain = json.loads(json.dumps(result.to_json()))
    assert plain["instruction_set"] == instruction_set() != ""
    assert "rounds_ms" not in plain and plain["median_ms"] == result.median_ms


def test_interleaved_networks_are_compared_round_by_round(networks):
    paths = [networks["small"], networks["small"], networks["large"]]
    one, same, large = measure_interleaved(paths, seconds=0.3)
    equal = latency_ratio(same, one)
    assert equal.low <= equal.value <= equal.high
    # 95 % intervals of the truth, 1, miss it now and then: on a busy machine by some tenths.
    assert equal.low < 1.5 and equal.high > 1 / 1.5
    assert latency_ratio(one, one) == (1.0, 1.0, 1.0)
    assert latency_ratio(one, large).high < 0.9


def test_files_of_two_runtimes_are_measured_in_turns(networks, tmp_path):
    flat = tmp_path / "m.tflite"
    flat.write_bytes(dense(np.ones((16, 4), np.float32)))
    onnx, litert = measure_interleaved([networks["large"], flat], seconds=0.1)
    assert (onnx.runtime, litert.runtime) == ("onnxruntime", "litert")
    assert litert.runtime_version == version("ai-edge-litert")
    assert len(onnx.rounds_ms) == len(litert.rounds_ms)
    assert latency_ratio(litert, onnx).high < 1.0


def test_measuring_ends_when_the_intervals_are_narrow_enough(networks, monkeypatch):
    loose = measure(networks["small"], seconds=60.0, precision=1e9)
    assert len(loose.rounds_ms) == 15
    now, rng = [0.0], np.random.default_rng(0)

    def run():
        now[0] += rng.lognormal(-9, 0.5)

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    found = {}
    for precision in (0.1, 0.2):
        rounds, _ = interleave(lambda: [run], 60.0, rng, round_seconds=0.0, precision=precision)
        low, high = median_interval(rounds[:, 0], rng)
        assert high - low < 1.1 * precision * np.median(rounds[:, 0])
        found[precision] = len(rounds)
    assert 15 < found[0.2] < found[0.1] and now[0] < 60


def test_ratios_are_steady_where_the_machine_is_not(monkeypatch):
    """A machine that is slow and fast by turns, and another runtime that does not care."""
    now, opened, rng = [0.0], [0], np.random.default_rng(0)

    class Session:
        version = "1"

        def __init__(self, path, threads):
            self.runtime, self.took = path

        def random_images(self, batch, rng):
            return None

        def bound(self, images):
            opened[0] += 1
            mood = (1 + opened[0] // len(PATHS) % 2) if self.runtime == "moody" else 1

            def run():
                now[0] += self.took * mood * rng.lognormal(0, 0.001)

            return run

    PATHS: list[Any] = [("moody", 1e-4), ("moody", 3e-4), ("calm", 2e-4), ("calm", 1e-4)]
    monkeypatch.setattr(timing, "open_session", Session)
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    asked: dict[str, Any] = {"seconds": 20.0, "precision": 0.02}
    alone = measure_interleaved(PATHS, **asked)
    assert now[0] > 20, "medians of two moods are not steady"
    found = measure_interleaved(PATHS, **asked, steady=ratios_to([0, 0, 2, 2]))
    assert len(found[0].rounds_ms) == 15 < len(alone[0].rounds_ms)
    assert latency_ratio(found[1], found[0]).value == pytest.approx(3, rel=0.01)
    assert latency_ratio(found[3], found[2]).value == pytest.approx(0.5, rel=0.01)


def test_memory_grows_with_the_network(networks):
    small, large = (peak_memory(networks[name]) for name in ("small", "large"))
    kernel = 16 * 20000 * 4
    assert small + kernel / 2 < large < small + 30 * kernel


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_memory_is_a_networks_alone(runtime):
    """A process that runs a file imports neither JAX nor PyTorch: they take 150 MB."""
    code = f"import sys, pfrl.deploy.memory, pfrl.deploy.runtimes.{runtime}"
    code += "; sys.exit(bool({'jax', 'torch'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_memory_of_what_is_no_network_is_refused(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"nothing")
    with pytest.raises(FileError, match=r"cannot be run: .*m\.tflite is no network"):
        peak_memory(path)


@pytest.mark.parametrize(
    ("code", "limits", "reason"),
    [
        ("", Limits(60, GIB), None),
        ("import sys; sys.exit('said')", Limits(60, GIB), ""),
        ("import os; os.abort()", Limits(60, GIB), "crashed its runtime (signal 6)"),
        ("while True: pass", Limits(60, GIB), "was stopped after 60 s"),
        ("input()", Limits(0.01, GIB), "was stopped after 0 s"),
    ],
)
def test_a_process_that_does_not_end_is_stopped(code, limits, reason):
    timer = "import signal; signal.setitimer(signal.ITIMER_PROF, 0.5)\n"
    command = [sys.executable, "-c", timer + code]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stderr=nowhere) as process:
        found = watched(process.pid, limits)
    assert found == reason or (reason and found and found.startswith(reason))


def test_limits_grow_with_the_file_and_the_images(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(bytes(10 * 2**20))
    assert limits_of(path, threads=1, batch=1).seconds == 60 + 1 + 30
    assert limits_of(path, threads=2, batch=4).seconds == 2 * (60 + 1 + 120)
    assert 0 < limits_of(path, threads=1, batch=1).memory <= 2 * GIB + 160 * 2**20


def test_operations_have_times_of_their_own(networks, tmp_path):
    layers = layer_times(networks["large"], seconds=0.02)
    assert layers is not None and len(layers) == 1
    layer = layers[0]
    assert layer.op in ("MatMul", "Gemm") and 0 < layer.median_ms < 50
    assert layer_times(tmp_path / "m.tflite") is None


def test_a_missing_network_is_named(tmp_path):
    with pytest.raises(FileError, match="no file"):
        measure(tmp_path / "none.onnx")


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    # 2/1, 4/2, 6/2, 30/10, 9/2: medians alone would give 6/2 = 3 as well, but not this interval.
    result = latency_ratio(measured(2.0, 4.0, 6.0, 30.0, 9.0), measured(1.0, 2.0, 2.0, 10.0, 2.0))
    assert result.value == 3.0
    assert result.low == 2.0 and result.high == 4.5


def test_measurements_of_different_calls_are_not_paired():
    with pytest.raises(ValueError, match="one call of measure_interleaved"):
        latency_ratio(measured(1.0, 2.0), measured(1.0))


def test_every_round_runs_every_function_in_a_new_order():
    calls, made = [], []

    def make():
        made.append(len(calls))
        return [lambda name=name: calls.append(name) for name in "ab"]

    rounds, repeats = interleave(
        make, 0.0, np.random.default_rng(0), round_seconds=0.0, fewest_rounds=8
    )
    assert rounds.shape == (8, 2) and (rounds >= 0).all() and repeats == [1, 1]
    # Seven runs of each find out how long they take; a turn is two runs and one that is timed.
    turns = ["".join(calls[start : start + 6]) for start in range(14, len(calls), 6)]
    assert len(turns) == 8 and set(turns) == {"aaabbb", "bbbaaa"}
    assert made == [0, *range(20, 63, 6)]


@pytest.mark.parametrize(
    ("c_in", "c_out", "expected"),
    [
        (16, 16, 2.0),  # a point of the grid
        (16, 17, 4.0),  # 17 outputs are computed as 32
        (16, 32, 4.0),
        (12, 16, 1.5),  # halfway from 8 to 16 inputs
        (24, 20, 6.0),  # halfway from 16 to 32
        (4, 16, 0.5),  # below the grid: the line goes on
        (15, 1, 1.875),  # less than a block of inputs is fast at any count
        (17, 16, 6.0),  # slow
        (24, 16, 3.0),  # fast again
        (31, 24, 10.5),  # outputs of slow layers are not rounded: halfway from 8 to 13
        (21, 16, 6.0 + 2.0 * 4 / 14),
    ],
)
def test_a_layer_is_predicted_from_its_grid(c_in, c_out, expected):
    assert TABLE.predict(CONV, c_in, c_out) == pytest.approx(expected)


def test_predictions_are_never_negative():
    steep = Grid((8, 16), (16,), ((1.0,), (3.0,)))
    assert steep.at(1, 16) == 0.0


def test_the_table_survives_json():
    again = LatencyTable.from_json(json.loads(json.dumps(TABLE.to_json())))
    assert again == TABLE
    with pytest.raises(ValueError, match="not a latency table"):
        LatencyTable.from_json({"layers": []})


def test_what_was_not_measured_is_refused():
    other = LayerShape("dense", c_in=9, c_out=10)
    with pytest.raises(ValueError, match="not in the latency table"):
        TABLE.predict(other, 9, 10)
    for c_in, c_out in ((0, 16), (33, 16), (16, 0), (16, 33)):
        with pytest.raises(ValueError, match="1 to 32 and 1 to 32"):
            TABLE.predict(CONV, c_in, c_out)


def test_layers_are_measured_on_a_grid():
    images = LayerShape("conv", (3, 3), (2, 2), ((1, 1), (1, 1)), 1, 8, 8, 3, 8)
    depthwise = LayerShape("depthwise", (3, 3), (1, 1), ((1, 1), (1, 1)), 8, 8, 8, 8, 8)
    wide = LayerShape("conv", (3, 3), (1, 1), ((1, 1), (1, 1)), 1, 16, 16, 32, 32)
    shapes = [images, depthwise, DENSE, wide, DENSE]
    table = measure_table(shapes, points=(0.5, 1.0), seconds=0.2)
    assert list(table.layers) == [images, depthwise, DENSE, wide]
    assert table.layers[images].fast[:2] == ((3,), (8,))
    assert table.layers[depthwise].fast[:2] == ((8,), (8,))
    assert table.layers[DENSE].fast.c_in == (4, 8) and table.layers[DENSE].slow is None
    assert table.layers[wide].fast.c_in == (16, 32)
    slow = table.layers[wide].slow
    assert slow is not None and slow.c_in[-1] == 31 and all(c % 4 for c in slow.c_in)
    assert 0 < table.overhead_ms < table.predict(wide, 32, 32)
    assert table.predict(wide, 16, 16) < table.predict(wide, 32, 32)
    assert table.predict(depthwise, 5, 5) >= 0


def test_litert_has_grids_of_its_own():
    """Blocks that are not filled take a time of their own, whatever the number of inputs."""
    wide = LayerShape("conv", (3, 3), (1, 1), ((1, 1), (1, 1)), 1, 16, 16, 32, 64)
    depthwise = LayerShape("depthwise", (3, 3), (1, 1), ((1, 1), (1, 1)), 32, 8, 8, 32, 32)
    images = LayerShape("conv", (3, 3), (2, 2), ((1, 1), (1, 1)), 1, 8, 8, 3, 64)
    shapes = [wide, depthwise, images, DENSE]
    table = measure_table(shapes, points=(0.5, 1.0), seconds=0.2, runtime="litert")
    assert (table.runtime, table.runtime_version) == ("litert", version("ai-edge-litert"))
    block = table.block
    assert 32 % block == 0
    for shape in (wide, images):
        whole, uneven = table.layers[shape]
        assert uneven is not None and whole.c_in == uneven.c_in
        assert whole.c_out == (block, 32, 64)
        assert uneven.c_out == tuple(c - block // 2 for c in whole.c_out)
    assert table.layers[wide].fast.c_in == (16, 32) and table.layers[images].fast.c_in == (3,)
    # Another count of the same block stands at the same point; one that fills it does not.
    last = [table.predict(wide, 20, c) for c in (64, 63, 64 - block + 1, 64 - block // 2)]
    fast, slow = table.layers[wide]
    assert slow is not None and slow.at(20, 64 - block // 2) == last[1] == last[2] == last[3]
    assert last[0] == fast.at(20, 64)
    assert table.predict(DENSE, 8, 10) > 0 and table.predict(depthwise, 17, 17) >= 0
    assert LatencyTable.from_json(json.loads(json.dumps(table.to_json()))) == table


def test_a_runtime_without_files_measures_nothing():
    with pytest.raises(Unavailable, match="one of litert, onnx is"):
        measure_table([DENSE], runtime="xla")


def test_layers_of_integers_have_a_finer_grid_of_inputs():
    wide = LayerShape("conv", (3, 3), (1, 1), ((1, 1), (1, 1)), 1, 16, 16, 64, 32)
    table = measure_table([wide, DENSE], points=(0.5, 1.0), seconds=0.1, integers=True)
    assert table.integers
    assert table.layers[wide].fast.c_in == (4, 8, 12, 16, 20, 24, 28, 32, 64)
    assert table.layers[wide].slow is None
    assert table.predict(wide, 18, 17) >= 0
    assert LatencyTable.from_json(json.loads(json.dumps(table.to_json()))) == table


def test_layers_of_integers_compute_with_them_in_litert():
    depthwise = LayerShape("depthwise", (3, 3), (1, 1), ((1, 1), (1, 1)), 8, 8, 8, 8, 8)
    litert, rng = file_runtime("litert"), np.random.default_rng(0)
    for shape in (CONV, depthwise, DENSE):
        content = layer_file(litert, shape, 8, 8, rng, True)
        images = litert.opened(content).random_images(1, rng)
        layer, result = (value for _, value in computed(content, images)[-2:])
        assert layer.dtype == np.int8 and result.dtype == np.float32


def test_layers_of_integers_compute_with_them(tmp_path):
    depthwise = LayerShape("depthwise", (3, 3), (1, 1), ((1, 1), (1, 1)), 8, 8, 8, 8, 8)
    for shape, kernel in ((CONV, "QLinearConv"), (depthwise, "QLinearConv"), (DENSE, "QGemm")):
        runtime = file_runtime("onnx")
        content = layer_file(runtime, shape, 8, 8, np.random.default_rng(0), True)
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        onnxruntime.InferenceSession(content, options)
        found = {node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node}
        assert kernel in found and not found & {"Conv", "Gemm", "FusedConv", "FusedGemm"}

"""Latency models are measured once a machine and network."""

import json
from dataclasses import replace

import onnx
import pytest

from experiments import cli
from experiments.run import compression, latency
from experiments.run.latency import IntegerShares
from experiments.settings.blocks import SpaceBlock
from experiments.settings.compression import CompressSettings
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import ROUNDED
from pfrl.cost import BudgetError, CostModel
from pfrl.cost.latency import NetworkLatency
from pfrl.deploy.operators.program import ExportError
from pfrl.graph import trace
from tests.experiments.test_cli import TINY
from tests.support.tiny import Dense, TwoConvs, made, shape


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """How often something was measured; the cache is a folder of the test's own."""
    monkeypatch.setenv("PFRL_CACHE", str(tmp_path))
    monkeypatch.setattr(latency, "SECONDS", 0.05)
    monkeypatch.setattr(latency, "NETWORKS", 2)
    calls, measure = [], latency._measured

    def counted(*arguments):
        calls.append(arguments)
        return measure(*arguments)

    monkeypatch.setattr(latency, "_measured", counted)
    return calls


def test_the_same_network_is_measured_once(measured, tmp_path, capsys):
    graph = trace(made(TwoConvs), shape(1, 8, 8, 1))
    first = latency.measure_latency(graph, 0.5, 4, 0)
    assert "measured on this machine before" not in capsys.readouterr().err
    again = latency.measure_latency(trace(made(TwoConvs, seed=1), shape(1, 8, 8, 1)), 0.5, 4, 0)
    assert len(measured) == 1 and again.to_json() == first.to_json()
    told = capsys.readouterr().err
    assert first.integers is None
    (path,) = (tmp_path / "latency").iterdir()
    assert str(path) in told
    # A damaged file is measured again and is whole then.
    path.write_text("{")
    assert isinstance(latency.measure_latency(graph, 0.5, 4, 0), NetworkLatency)
    assert len(measured) == 2 and path.read_text() != "{"


def test_integers_are_measured_beside_floats_and_decide_about_policies_that_round(measured):
    graph = trace(made(TwoConvs), shape(1, 8, 8, 1))
    model = latency.measure_latency(graph, 0.5, 4, 0, integers=True)
    assert [arguments[-2:] for arguments in measured] == [([32, 8], "onnx")]
    assert model.integers is not None and model.integers.table.integers
    assert NetworkLatency.from_json(graph, json.loads(json.dumps(model.to_json()))) == model
    costs = CostModel(graph, model, integer_latency=model.integers)
    full = graph.full_counts()
    assert costs.base["latency"] == model(full)
    names = [layer.name for layer in graph.layers]
    for weights, inputs, expected in (
        (32, 32, model),
        (8, 8, model.integers),
        (3, 5, model.integers),
        (8, 32, model),
    ):
        policy = Policy.uniform(graph, 1.0, weights, inputs)
        assert costs.of(policy)["latency"] == expected(full)
    mixed = dict.fromkeys(names, 8) | {names[0]: 32}
    policy = replace(Policy.uniform(graph, 1.0, 8, 8), weight_bits=mixed)
    assert costs.of(policy)["latency"] == model(full), "a layer computes with floats"


def test_policies_that_round_are_measured_as_files_of_integers(monkeypatch):
    graph = trace(made(TwoConvs), shape(1, 8, 8, 1))
    seen = []

    def measured(paths, **asked):
        for path in paths:
            kinds = {node.op_type for node in onnx.load(path).graph.node}
            seen.append("QuantizeLinear" in kinds)

    monkeypatch.setattr(latency, "measure_interleaved", measured)
    policies = [Policy.uniform(graph, 0.5, bits, bits) for bits in (32, 8, 4)]
    latency.measure_policies(graph, policies, 0.1)
    assert seen == [False, True, True]


FAST = IntegerShares(0.5, 0.1, 0.3)


def test_speed_takes_integers_where_they_are_faster(monkeypatch):
    monkeypatch.setattr(compression, "integer_shares", lambda graph, space: FAST)
    settings = CompressSettings(prefer="speed").resolved().resolved()
    assert settings.space.int8 is None and not settings.space.opened()["quantized"]
    found: dict = {}
    graph = trace(made(TwoConvs), shape(1, 8, 8, 1))
    fast = compression.faster(settings, graph, found)
    assert found == {"share": 0.5} and fast.space.int8 == "fastest" and fast.recipe == ROUNDED
    assert fast.target == settings.target
    for known in (0.95, None):  # as a run that goes on has it; nothing is measured again
        assert compression.faster(settings, graph, {"share": known}) == settings
    said = CompressSettings(prefer="speed", space=SpaceBlock(int8="none")).resolved()
    assert said.space.int8 == "none", "what is said wins"


def test_integers_that_miss_the_target_are_not_used(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(compression, "integer_shares", lambda graph, space: FAST)
    tried = []

    def prepare(settings, task, graph):
        tried.append(task.quantized)
        raise BudgetError("out of reach") if task.quantized else ExportError("far enough")

    monkeypatch.setattr(compression, "prepare", prepare)
    command = ["compress", "--model", "resnet8", "--data", "digits", "--prefer", "speed"]
    assert cli.main([*command, "--out", str(tmp_path / "run")]) == cli.USER_ERROR
    told = capsys.readouterr().err
    assert tried == [True, False] and "far enough" in told and "out of reach" not in told
    assert "with integers no network meets the target: they are not used" in told
    asked = [*command, "--int8", "fastest", "--out", str(tmp_path / "run")]
    assert cli.main(asked) == cli.USER_ERROR and "out of reach" in capsys.readouterr().err
    settings = CompressSettings(prefer="speed").resolved()
    found = {"share": 0.5, "within_reach": False}  # as a run that goes on has it
    assert compression.faster(settings, trace(made(TwoConvs), shape(1, 8, 8, 1)), found) == settings


@pytest.mark.parametrize(
    ("settings", "smallest", "used"),
    [
        (CompressSettings(prefer="speed"), 0.51, False),
        (CompressSettings(prefer="speed"), 0.5, True),
        (CompressSettings(prefer="speed", target="latency=0.6"), 0.51, True),
        (CompressSettings(prefer="speed", target="latency=1ms"), 0.99, True),  # not known yet
        (CompressSettings(prefer="speed", target="macs=0.5"), 0.99, True),
        (CompressSettings(prefer="speed", max_drop=1.0), 0.99, True),
    ],
)
def test_integers_are_given_up_before_layers_are_measured(
    settings, smallest, used, monkeypatch, capsys
):
    shares = IntegerShares(0.7, smallest, 0.6)
    monkeypatch.setattr(compression, "integer_shares", lambda graph, space: shares)
    graph, found = trace(made(TwoConvs), shape(1, 8, 8, 1)), {}
    settings = compression.faster(settings.resolved(), graph, found)
    assert (settings.space.int8 == "fastest") == used
    assert found.get("within_reach", True) == used
    assert ("no network meets the target" in capsys.readouterr().err) == (not used)
    again = compression.faster(settings, graph, found)  # as a run that goes on; nothing is measured
    assert again.space.int8 == settings.space.int8


# All channels take 1 and 0.56, the fewest 0.2 and 0.48: at a half a quarter of the way is left with
# integers, and three eighths without; at 0.55 seven eighths and less than a half.
@pytest.mark.parametrize(("target", "used"), [("0.5", False), ("0.55", True), ("0.6", True)])
def test_integers_that_cost_more_channels_are_not_used(target, used, monkeypatch, capsys):
    shares = IntegerShares(0.56, 0.48, 0.2)
    monkeypatch.setattr(compression, "integer_shares", lambda graph, space: shares)
    graph, found = trace(made(TwoConvs), shape(1, 8, 8, 1)), {}
    asked = CompressSettings(prefer="speed", target=f"latency={target}").resolved()
    assert (compression.faster(asked, graph, found).space.int8 == "fastest") == used
    told = capsys.readouterr().err
    assert ("more channels would have to go" in told) == (not used)
    again = compression.faster(asked, graph, found)  # as a run that goes on; nothing is measured
    assert (again.space.int8 == "fastest") == used


def test_a_network_that_has_no_integers_has_no_share(monkeypatch):
    def refuses(*_):
        raise ExportError("no integers")

    monkeypatch.setattr(latency, "measure_policies", refuses)
    graph = trace(made(TwoConvs), shape(1, 8, 8, 1))
    assert latency.integer_shares(graph, SpaceBlock()) is None


def test_whatever_decides_about_a_latency_is_another_model(measured):
    graph = trace(made(TwoConvs), shape(1, 8, 8, 1))
    wider = trace(made(lambda rngs: TwoConvs(rngs, 12)), shape(1, 8, 8, 1))
    larger = trace(made(TwoConvs), shape(1, 12, 12, 1))
    asked = [
        (graph, 0.5, 4, 0, False, "litert"),
        (graph, 0.5, 4, 0, False, "onnx"),
        (graph, 0.5, 4, 0, True, "onnx"),
        (graph, 0.25, 4, 0, False, "onnx"),
        (graph, 0.5, 8, 0, False, "onnx"),
        (graph, 0.5, 4, 1, False, "onnx"),
        (wider, 0.5, 4, 0, False, "onnx"),
        (larger, 0.5, 4, 0, False, "onnx"),
        (trace(made(Dense), shape(1, 3)), 0.5, 4, 0, False, "onnx"),
    ]
    assert len({latency._key(*arguments) for arguments in asked}) == len(asked)


def test_a_cache_that_cannot_be_written_is_no_obstacle(measured, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PFRL_CACHE", str(tmp_path / "file"))
    graph = trace(made(TwoConvs), shape(1, 8, 8, 1))
    assert latency.measure_latency(graph, 0.5, 4, 0)(graph.full_counts()) > 0


@pytest.mark.ci
def test_a_latency_of_what_phones_have_is_met(measured, tmp_path, capsys):
    """Predicted, measured and answered in LiteRT, whose file is the one that is named."""
    out = tmp_path / "run"
    words = ["compress", *TINY, "--target", "latency=0.9", "--latency-runtime", "litert"]
    assert cli.main([*words, "--agent", "random", "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "Measured on the file in LiteRT:" in told.err
    assert str(out / "model.tflite") in told.out
    report = json.loads((out / "report.json").read_text())
    assert report["latency_runtime"] == "litert"
    assert report["budget"]["achieved"] <= report["budget"]["limit"]
    table = json.loads((out / "latency.json").read_text())["table"]
    assert table["runtime"] == "litert"

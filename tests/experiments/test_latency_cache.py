"""Latency models are measured once a machine and network."""

import pytest

from experiments.run import latency
from pfrl.cost.latency import NetworkLatency
from pfrl.graph import trace
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
    (path,) = (tmp_path / "latency").iterdir()
    assert str(path) in told
    # A damaged file is measured again and is whole then.
    path.write_text("{")
    assert isinstance(latency.measure_latency(graph, 0.5, 4, 0), NetworkLatency)
    assert len(measured) == 2 and path.read_text() != "{"


def test_whatever_decides_about_a_latency_is_another_model(measured):
    graph = trace(made(TwoConvs), shape(1, 8, 8, 1))
    wider = trace(made(lambda rngs: TwoConvs(rngs, 12)), shape(1, 8, 8, 1))
    larger = trace(made(TwoConvs), shape(1, 12, 12, 1))
    asked = [
        (graph, 0.5, 4, 0),
        (graph, 0.25, 4, 0),
        (graph, 0.5, 8, 0),
        (graph, 0.5, 4, 1),
        (wider, 0.5, 4, 0),
        (larger, 0.5, 4, 0),
        (trace(made(Dense), shape(1, 3)), 0.5, 4, 0),
    ]
    assert len({latency._digest(*arguments) for arguments in asked}) == len(asked)


def test_a_cache_that_cannot_be_written_is_no_obstacle(measured, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PFRL_CACHE", str(tmp_path / "file"))
    graph = trace(made(TwoConvs), shape(1, 8, 8, 1))
    assert latency.measure_latency(graph, 0.5, 4, 0).factor >= 0

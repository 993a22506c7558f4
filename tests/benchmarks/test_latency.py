"""The benchmark of predicted latencies says how far they are off."""

import re

import pytest

from benchmarks.files import latency
from experiments.run import latency as measuring


@pytest.mark.ci
@pytest.mark.parametrize("options", [["--runtime", "litert"], ["--integers"]])
def test_it_says_how_far_predictions_are_off(options, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PFRL_CACHE", str(tmp_path))
    monkeypatch.setattr(measuring, "SECONDS", 0.05)
    monkeypatch.setattr(measuring, "NETWORKS", 2)
    latency.main(["--model", "resnet8", "--policies", "2", "--seconds", "0.05", *options])
    told = capsys.readouterr().out
    found = re.search(r"off by ([\d.]+) % in the mean, ([\d.]+) % at most", told)
    assert found is not None
    mean, most = map(float, found.groups())
    assert 0 <= mean <= most + 0.05
    assert ("litert, 32 bits" if "litert" in options else "onnx, 8 bits") in told

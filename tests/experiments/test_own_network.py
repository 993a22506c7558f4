"""A user's own network and all knobs, from the command line to the exported file."""

import json

import numpy as np
import pytest

from experiments import cli
from pfrl.compression.policy import Policy
from pfrl.deploy.packed.pack import unpack
from pfrl.deploy.runtimes.onnxruntime import Session
from tests.models.test_network import HEAD, NNX

TINY = """--episodes 3 --agent random --episode.steps 1 --episode.batch 16
 --episode.search-images 60 --episode.statistics-images 16
 --episode.validation xla --recipe.images 64 --finish.epochs 0.05
 --finish.seconds 0.1 --finish.candidates 1 --finish.rescore-steps 1""".split()


def compressed(out, *options: str) -> dict:
    """The report of a tiny run."""
    assert cli.main(["compress", *TINY, "--out", str(out), *options]) == 0
    return json.loads((out / "report.json").read_text())


def test_a_network_of_ones_own_is_compressed(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(HEAD + NNX)
    report = compressed(tmp_path / "run", "--model", f"{path}:trained", "--round-to", "1")
    assert report["compressed"]["macs"] <= 0.5 * report["base"]["macs"]
    session = Session(tmp_path / "run" / "model.onnx")
    assert session.logits(np.zeros((2, 8, 8, 1), np.float32)).shape == (2, 10)


@pytest.mark.ci
def test_shares_of_zeros_are_in_the_network_that_is_handed_over(tmp_path):
    out = tmp_path / "run"
    compressed(out, "--knobs", "keep", "sparsity", "--target", "packed=0.4")
    shares = Policy.from_json(json.loads((out / "policy.json").read_text())).sparsity
    assert any(shares.values())
    arrays = unpack(out / "model.packed")
    zeros = {n: float((np.asarray(a) == 0).mean()) for n, a in arrays.items() if "kernel" in n}
    for layer, share in shares.items():
        assert zeros[f"{layer}.kernel"] == pytest.approx(share, abs=0.05)


def test_ranks_are_in_the_network_that_is_handed_over(tmp_path):
    options = ["--knobs", "rank", "--decompose", "channel", "--recipe.criterion", "l2"]
    report = compressed(tmp_path / "run", *options, "--target", "macs=0.7")
    assert report["compressed"]["macs"] <= 0.7 * report["base"]["macs"]
    session = Session(tmp_path / "run" / "model.onnx")
    assert session.logits(np.zeros((2, 8, 8, 1), np.float32)).shape == (2, 10)


def test_a_rank_without_a_decomposition_is_refused(tmp_path, capsys):
    out = ["--out", str(tmp_path / "run")]
    assert cli.main(["compress", "--knobs", "rank", *out]) == cli.USER_ERROR
    assert "--decompose" in capsys.readouterr().err
    options = ["--knobs", "rank", "--decompose", "qr", "--recipe.criterion", "l2"]
    assert cli.main(["compress", *options, *out]) == cli.USER_ERROR
    assert "unknown decomposition 'qr'; expected one of channel, s" in capsys.readouterr().err

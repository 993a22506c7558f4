"""``pfrl apply``: what a policy says is done, without a search."""

import json
import re

import pytest

from experiments import cli
from experiments.run.applying import read_policy, uniform_policy
from experiments.settings.applying import ApplySettings
from pfrl.compression.policy import Policy, PolicyError
from pfrl.files import FileError, write_json
from pfrl.graph import trace
from tests.support.tiny import TwoConvs, made, shape

QUICK = ["apply", "--statistics-images", "16", "--recipe.images", "64", "--finish.epochs", "0.05",
         "--finish.seconds", "0.05"]  # fmt: skip


def test_a_share_and_bits_and_then_the_policy_of_that_run(tmp_path, capsys):
    first = [*QUICK, "--keep", "0.5", "--bits", "4", "--out", str(tmp_path / "a")]
    assert cli.main(first) == 0
    said = capsys.readouterr().err
    assert re.search(r"\n\d.* MACs; .*test accuracy .* → .*; file .* → .*\.\n", said)
    policy = json.loads((tmp_path / "a" / "policy.json").read_text())
    assert set(policy["keep"].values()) == {0.5}
    assert sorted(set(policy["weight_bits"].values())) == [4, 8]
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert report["agent"] == "given policy" and report["search"] == {}
    page = (tmp_path / "a" / "report.md").read_text()
    assert "How the search went" not in page and "tensorboard" not in page
    again = [*QUICK, "--policy", str(tmp_path / "a" / "policy.json"), "--out", str(tmp_path / "b")]
    assert cli.main(again) == 0
    other = json.loads((tmp_path / "b" / "report.json").read_text())
    for what in ("test_accuracy", "macs", "params", "nbytes"):
        assert other["compressed"][what] == report["compressed"][what]
    # The same folder with another policy is refused.
    capsys.readouterr()
    assert cli.main([*first, "--keep", "0.25"]) == cli.USER_ERROR
    assert "keep was 0.5, now it is 0.25" in capsys.readouterr().err


def test_what_is_the_same_everywhere():
    graph = trace(made(TwoConvs), shape(1, 8, 8, 1))
    policy = uniform_policy(ApplySettings(keep=0.5, bits=2, sparsity=0.3), graph)
    assert set(policy.keep.values()) == {0.5}
    assert policy.weight_bits == {"conv1": 8, "conv2": 2, "linear": 8} == policy.act_bits
    assert policy.sparsity == {"conv2": 0.3}
    sparse = uniform_policy(ApplySettings(sparsity=0.5), graph)
    assert set(sparse.weight_bits.values()) == {32} and set(sparse.keep.values()) == {1.0}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "nothing says what to do with the network; give --policy FILE, or --keep"),
        (["--policy", "p.json", "--bits", "8"], "--policy and --bits both say what to do"),
        (["--bits", "9"], "bits is a whole number from 2 to 8, got 9"),
        (["--policy", "none.json"], "none.json is no JSON file that can be read"),
    ],
)
def test_mistakes_are_one_sentence(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*QUICK, *words, "--out", "run"]) == cli.USER_ERROR
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_files_that_hold_no_policy(tmp_path):
    path = tmp_path / "policy.json"
    path.write_text("[" * 100_000)
    with pytest.raises(FileError, match="no JSON file that can be read"):
        read_policy(path)
    write_json(path, {"keep": 3})
    with pytest.raises(PolicyError, match=r"policy\.json: expected a policy with keep"):
        read_policy(path)
    other = Policy({"elsewhere": 0.5}, {}, {})
    write_json(path, other.to_json())
    assert read_policy(path) == other
    graph = trace(made(TwoConvs), shape(1, 8, 8, 1))
    with pytest.raises(PolicyError, match="'elsewhere' is not in the network"):
        read_policy(path).checked(graph)

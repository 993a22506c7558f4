"""The comparison with PyTorch: both libraries have the same network, whole and pruned."""

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

if importlib.util.find_spec("torch_pruning") is None:
    pytest.skip(
        "torch-pruning is not installed: pip install -c constraints.txt -e '.[benchmarks]'",
        allow_module_level=True,
    )

import torch

from benchmarks import peers
from benchmarks.peers_table import Case, describe, summarize
from benchmarks.peers_torch import (
    CifarResNet,
    prune,
    removed_outputs,
    to_torch,
    tune,
    validate,
    with_weights,
)
from experiments.settings.blocks import SettingsError
from pfrl.compression.policy import Policy
from pfrl.compression.sliced import compress
from pfrl.graph import trace
from tests.support.tiny import made, resnet8, shape


@pytest.fixture(scope="module")
def graph():
    return trace(made(resnet8), shape(1, 8, 8, 1))


@pytest.fixture(scope="module")
def model(graph):
    return with_weights(CifarResNet(8, 4, 1, width=4), graph.source.variables).eval()


IMAGES = np.random.default_rng(3).normal(size=(5, 8, 8, 1)).astype(np.float32)
X = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)


def logits(network):
    with torch.no_grad():
        return network.eval()(X).numpy()


def test_both_networks_are_the_same(graph, model):
    ours = compress(graph.source, Policy.uniform(graph), graph=graph)
    np.testing.assert_allclose(logits(model), ours(IMAGES), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_both_networks_are_the_same_after_pruning(seed, graph, model):
    """Residual channels, too, which option A's shortcuts move to other places."""
    shares = np.random.default_rng(seed).uniform(0.2, 1, len(graph.groups))
    keep = dict(zip(graph.groups, shares.tolist(), strict=True))
    policy = replace(Policy.uniform(graph), keep=keep)
    ours = compress(graph.source, policy, graph=graph)
    small = prune(model, removed_outputs(graph, ours.kept), X[:1])
    np.testing.assert_allclose(logits(small), ours(IMAGES), rtol=1e-4, atol=1e-4)
    params = sum(p.numel() for n, p in small.named_parameters() if ".shortcut." not in n)
    assert params == ours.params
    # The original is whole.
    assert model.state_dict()["conv1.weight"].shape[0] == 4


def test_what_is_removed_of_a_layer(graph):
    kept = {name: np.arange(group.size) for name, group in graph.groups.items()}
    assert set(map(tuple, removed_outputs(graph, kept).values())) == {()}
    # The stem's channels have 2 new ones on either side in the second stage, and 4 more in the
    # third.
    kept["conv1"] = np.array([0, 1, 3])
    removed = {name: places for name, places in removed_outputs(graph, kept).items() if places}
    assert removed == {
        "conv1": [2],
        "layer1.0.conv2": [2],
        "layer2.0.conv2": [4],
        "layer3.0.conv2": [8],
    }


def test_pruning_what_cannot_go_alone_is_refused(graph, model):
    # The first block's sum goes with the stem, of which nothing is to be removed.
    wrong = {**dict.fromkeys(("conv1", "linear"), ()), "layer1.0.conv2": (1,)}
    with pytest.raises(ValueError, match="Torch-Pruning left"):
        prune(model, wrong, X[:1])


def test_fine_tuning_learns_and_leaves_shortcuts_alone(model):
    small = prune(model, {"layer1.0.conv1": [0]}, X[:1])
    before = small.state_dict()["layer2.0.shortcut.weight"].clone()
    batches = [(X, torch.arange(5) % 4)] * 60
    tune(small, batches, 0.02, 5e-4)
    assert torch.equal(small.state_dict()["layer2.0.shortcut.weight"], before)
    with torch.no_grad():
        # In training mode: the statistics of five images are not yet those of a network at rest.
        assert (small.train()(X).argmax(1) == batches[0][1]).float().mean() >= 0.8


def test_batches_without_what_fills_them_up():
    batches = to_torch([(IMAGES, np.arange(3, dtype=np.int32))], at_once=2)
    assert [(tuple(x.shape), y.tolist()) for x, y in batches] == [
        ((2, 1, 8, 8), [0, 1]),
        ((1, 1, 8, 8), [2]),
    ]
    outputs = torch.nn.functional.one_hot(torch.tensor([0, 3, 2])).float()
    assert validate(Answers(iter(outputs.split(2))), batches) == pytest.approx(2 / 3)


class Answers(torch.nn.Module):
    def __init__(self, answers):
        super().__init__()
        self.answers = answers

    def forward(self, x):
        return next(self.answers)


def evaluation(policy, contestant, accuracy, seconds):
    parts = {"validation": seconds}
    return {
        "policy": policy,
        "contestant": contestant,
        "accuracy": accuracy,
        "seconds": seconds,
        "parts": parts,
    }


def test_medians_ratios_and_ranks_by_hand():
    lines = [
        evaluation(policy, contestant, accuracy, seconds * (1 + policy))
        for policy in (2, 0, 1)
        for contestant, accuracy, seconds in (
            ("reconstruct", 0.5 + policy / 10, 1.0),
            ("finetune", 0.5 - policy / 10, 4.0),
            ("PyTorch", 0.3, 3.0),
        )
    ]
    policy = Policy()
    cases = [Case(policy, {"accuracy": 0.8 + n / 100, "held_out": 0.7}) for n in range(3)]
    found = summarize(lines, cases, seed=0)
    rows = found["contestants"]
    assert [row["seconds"] for row in rows.values()] == [2.0, 8.0, 6.0]
    assert [row["times_faster"] for row in rows.values()] == [3.0, 0.75, 1.0]
    assert rows["reconstruct"]["interval"] == (3.0, 3.0)
    ranks = {
        name: row["correlations"]["accuracy"]["all"]["kendall"]["value"]
        for name, row in rows.items()
    }
    assert ranks == {"reconstruct": 1.0, "finetune": pytest.approx(-1.0), "PyTorch": None}
    facts = {
        "settings": {"model": "resnet8", "steps": 2},
        "machine": {"cpu": "a CPU", "cores": 2},
        "logits_differ_by": 1e-6,
        "command": "python -m benchmarks.peers",
    }
    text = describe(found, facts).replace("\u00a0", " ")
    assert "| reconstruct | validation 2.00 | 2.00 | 3.00 (3.00 to 3.00) |" in text
    assert "| PyTorch | validation 6.00 | 6.00 | 1 | 30.0 / 30.0 / 30.0 |" in text
    alone = summarize(lines, [Case(policy, None)] * 3, seed=0)
    assert "Rank correlation" in text and "Rank correlation" not in describe(alone, facts)


@pytest.mark.slow
def test_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(peers, "ProcessPoolExecutor", lambda n, *_: ThreadPoolExecutor(n))
    monkeypatch.setattr(
        peers, "draw_policies", lambda settings, graph: [Policy.uniform(graph, k) for k in (0.6, 1)]
    )
    out = tmp_path / "run"
    options = "--model resnet8 --data digits --policies 2 --steps 2 --out"
    peers.main([*options.split(), str(out)])
    assert "times faster than PyTorch" in capsys.readouterr().out
    found = json.loads((out / "peers.json").read_text())
    assert found["logits_differ_by"] < 1e-4
    order = [line["contestant"] for line in found["evaluations"]]
    assert order == [*peers.CONTESTANTS, *peers.CONTESTANTS[1:], peers.CONTESTANTS[0]]
    # Nothing was removed from the last, and two steps of fine-tuning do little harm.
    last = found["evaluations"][len(peers.CONTESTANTS) :]
    assert all(line["accuracy"] > 0.85 for line in last)
    assert (out / "peers.md").is_file()


def test_a_study_that_is_not_there(tmp_path):
    with pytest.raises(SettingsError, match="has 0 policies after a long fine-tuning"):
        peers.main(["--model", "resnet8", "--data", "digits", "--proxy", str(tmp_path)])
    with pytest.raises(SettingsError, match="expected a model such as resnet20"):
        peers.main(["--model", "mobilenet_v2"])

"""``pfrl proxy``: policies of equal cost, rank correlations by hand, a run as a user types it."""

import json

import numpy as np
import pytest
from scipy import stats

from envs.task import load_network
from experiments.cli import main
from experiments.settings.blocks import NetworkBlock, SettingsError
from experiments.studies.proxy import scores as proxy
from experiments.studies.proxy.scores import draw_policies
from experiments.studies.proxy.settings import ProxySettings
from experiments.studies.proxy.table import (
    correlate,
    kendall,
    spearman,
    study,
    write_study,
    written,
)
from pfrl.compression.policy import Policy
from pfrl.cost import BudgetError, CostModel
from pfrl.models.catalogue import pretrained_path


@pytest.fixture(scope="module")
def graph():
    return load_network("resnet8", "digits", str(pretrained_path("resnet8", "digits")))[1]


def with_policies(count, **changes):
    return ProxySettings(
        NetworkBlock("resnet8", "digits", weights=pretrained_path("resnet8", "digits")),
        round_to=1,
        policies=count,
        **changes,
    )


def test_policies_cost_the_same_and_are_different(graph):
    policies = draw_policies(with_policies(12), graph)
    costs = CostModel(graph)
    limit = costs.base["macs"] / 2
    assert all(0.98 * limit <= costs.of(policy)["macs"] <= limit for policy in policies)
    assert len({json.dumps(policy.to_json()) for policy in policies}) == 12
    keep = np.array([list(policy.keep.values()) for policy in policies])
    assert keep.min() >= 0.2 - 0.5 / 16
    # All groups are treated alike: each is large in some policies and small in others.
    assert (np.ptp(keep, axis=0) > 0.3).all()


def test_more_policies_begin_with_the_same_and_another_seed_has_others(graph):
    few, many = (draw_policies(with_policies(count), graph) for count in (3, 5))
    assert many[:3] == few
    assert draw_policies(with_policies(3, seed=1), graph) != few


def test_policies_that_do_not_exist(graph, monkeypatch):
    with pytest.raises(BudgetError, match="cannot be met"):
        draw_policies(with_policies(2, target="macs=0.001"), graph)
    monkeypatch.setattr(proxy, "DRAWS", 3)
    # The whole network is the only policy of this cost.
    with pytest.raises(SettingsError, match=r"found 1 of 2 different policies that cost 98% to"):
        draw_policies(with_policies(2, target="macs=1.0"), graph)


def test_correlations_by_hand():
    # Of six pairs five agree and one does not; d = (0, 0, 1, 1): 1 - 6 * 2 / (4 * 15).
    x, y = np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 4, 3])
    assert kendall(x, y) == pytest.approx(4 / 6)
    assert spearman(x, y) == pytest.approx(0.8)
    assert np.isnan(kendall(x, np.ones(4))) and np.isnan(spearman(np.ones(4), y))


def test_correlations_are_scipys_with_ties_too():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, (2, 5, 30)).astype(float)
    for ours, theirs in ((kendall, stats.kendalltau), (spearman, stats.spearmanr)):
        expected = [theirs(a, b)[0] for a, b in zip(x, y, strict=True)]
        assert ours(x, y) == pytest.approx(expected)


def test_intervals_of_correlations():
    rng = np.random.default_rng(1)
    x = rng.normal(size=60)
    y = x + rng.normal(size=60)
    for name, found in correlate(x, y).items():
        value, low, high = found
        assert value is not None and low is not None and high is not None
        assert low < value < high, name
        assert 0.1 < high - low < 0.5
    assert correlate(x, y) == correlate(x, y)
    assert correlate(x, x)["kendall"] == (1.0, 1.0, 1.0)
    assert correlate(x, np.ones(60))["spearman"] == (None, None, None)


def line(number, fidelity, accuracy, **more):
    common = {"seconds": 1.0 + number, "setup": 3.0, "diverged": False}
    return {"number": number, "fidelity": fidelity, "accuracy": accuracy, **common, **more}


# The finetune accuracies reverse the better half and leave it above the other.
LINES = [
    *(line(n, "finetune", accuracy) for n, accuracy in enumerate([0.1, 0.2, 0.5, 0.4])),
    *(line(n, "long", 0.8, held_out=0.6 + n / 100) for n in range(4)),
    # Not trained for long yet.
    line(4, "finetune", 0.9),
]


def test_a_study_by_hand():
    found = study(LINES)
    row = found["finetune"]
    assert (row["policies"], row["seconds"], row["setup"], row["diverged"]) == (4, 3.0, 3.0, 0)
    held_out = row["correlations"]["held_out"]
    assert held_out["all"]["kendall"]["value"] == pytest.approx(4 / 6)
    assert held_out["top"]["kendall"]["value"] == -1
    # All are equal on the same images.
    assert row["correlations"]["accuracy"]["all"]["kendall"]["value"] is None
    assert list(found["long"]["correlations"]) == ["held_out"]


def test_the_page_and_the_picture(tmp_path):
    settings = {
        "model": "resnet8",
        "target": "macs=0.5",
        "search_images": 100,
        "long_images": 640,
        "learning_rate": 0.02,
    }
    facts = {"settings": settings, "machine": {"cpu": "a CPU", "instruction_set": "avx2"}}
    page, picture, data = write_study(tmp_path, LINES, {**facts, "commands": ["pfrl proxy"]})
    text = page.read_text()
    assert "4 random policies of resnet8 with macs=0.5" in text
    assert "right on 60.0 % to 63.0 % of the search images" in text
    rows = [each for each in text.splitlines() if each.startswith("| finetune")]
    assert [row.replace("\u00a0", " ").split(" | ")[1:2] for row in rows] == [
        ["3.00"],
        ["–"],
        ["0.67 (−1.00 to 1.00)"],
    ]
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert json.loads(data.read_text())["fidelities"]["finetune"]["policies"] == 4
    assert written({"value": None, "low": None, "high": None}) == "–"


COMMAND = ["proxy", "--model", "resnet8", "--data", "digits", "--policies", "2", "--round-to", "1",
           "--workers", "1"]  # fmt: skip
SHORT = ["--long-images", "192", "--search-images", "100", "--supernet-steps", "2"]


@pytest.mark.ci
def test_a_run_goes_on_where_it_ended(tmp_path, capsys):
    out = tmp_path / "run"
    command = [*COMMAND, *SHORT, "--fidelities", "reconstruct", "--out", str(out)]
    assert main(command) == 0
    printed = [str(out / name) for name in ("proxy.md", "proxy.png", "proxy.json")]
    assert capsys.readouterr().out.split() == printed
    history = out / "results.jsonl"
    first = history.read_text().splitlines()
    found = [json.loads(each) for each in first]
    names = [(each["fidelity"], each["number"]) for each in found]
    assert names == [("reconstruct", 0), ("reconstruct", 1), ("long", 0), ("long", 1)]
    assert found[0]["policy"] == found[2]["policy"]
    Policy.from_json(found[0]["policy"])
    assert all(each["accuracy"] > 0.5 and not each["diverged"] for each in found)
    assert found[2]["held_out"] > 0.5
    # The last line is cut off, as a kill would; it alone is made again, and comes out the same.
    history.write_text("\n".join([*first[:-1], first[-1][:50]]))
    assert main(command) == 0
    again = [json.loads(each) for each in history.read_text().splitlines()]
    assert again[:-1] == found[:-1]
    for key in ("number", "fidelity", "accuracy", "held_out", "policy"):
        assert again[-1][key] == found[-1][key]
    # Another fidelity adds its lines to those that are there.
    assert main([*command, "--fidelities", "supernet", "reconstruct"]) == 0
    added = [json.loads(each) for each in history.read_text().splitlines()][4:]
    names = [(each["fidelity"], each["number"]) for each in added]
    assert names == [("supernet", 0), ("supernet", 1)]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["--policies", "1"], "policies is a whole number from 2, got 1"),
        (["--workers", "-1"], "workers is a whole number from 0, got -1"),
        (["--fidelities", "finetune", "finetune"], "fidelities are different ones"),
        (["--target", "latency=0.5"], "policies of equal latency are not drawn"),
        (["--target", "macs=0.001"], "cannot be met"),
        (["--model", "resnet9"], "unknown model 'resnet9'"),
    ],
)
def test_mistakes_are_one_sentence(wrong, sentence, tmp_path, capsys):
    assert main([*COMMAND, *wrong, "--out", str(tmp_path / "run")]) == 2
    said = [x for x in capsys.readouterr().err.splitlines() if x.startswith("pfrl: ")]
    assert len(said) == 1 and sentence in said[0]
    assert not (tmp_path / "run").exists()

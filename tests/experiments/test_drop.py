"""The objective --max-drop: limits are tried, and what is handed over was judged."""

import json

import numpy as np
import pytest
from scipy.special import ndtri

from experiments import cli
from experiments.report.intervals import Difference, paired_difference
from experiments.run import drop
from experiments.run.drop import Tried, descend
from experiments.run.promise import Beside, promised
from experiments.settings.blocks import SettingsError
from experiments.settings.compression import CompressSettings
from tests.experiments.test_cli import TINY


def losing(threshold):
    """Tries limits of a network that loses too much below a threshold."""
    tried = []

    def attempt(share):
        tried.append(share)
        loss = 0.0 if share >= threshold else -0.5
        return Tried(share, Difference(loss, loss, loss), share >= threshold)

    return tried, attempt


@pytest.mark.parametrize("threshold", [0.1, 0.2, 0.3, 0.5, 0.72, 0.97])
def test_the_lowest_limit_that_is_kept_is_come_near_to(threshold):
    tried, attempt = losing(threshold)
    found = descend(0.05, attempt)
    assert [one.share for one in found] == tried and len(tried) <= 5
    assert tried[0] == 0.6
    down = next(n for n, one in enumerate(found) if not one.kept)
    assert tried[: down + 1] == sorted(tried[: down + 1], reverse=True)
    kept = min((one.share for one in found if one.kept), default=1.0)
    # A step of 0.6, halved as often as there are limits left.
    nearest = max(0.6 ** (-(0.5 ** (4 - down))), 1.05)
    assert threshold <= kept <= threshold * nearest * 1.01


def test_where_no_limit_or_every_limit_is_kept():
    tried, attempt = losing(2.0)
    assert not any(one.kept for one in descend(0.2, attempt))
    assert tried == sorted(tried) and tried[-1] > 0.94
    tried, attempt = losing(0.0)
    assert all(one.kept for one in descend(0.2001, attempt))
    assert tried == [0.6, 0.36, 0.216, 0.201], "the floor itself, rounded up, and nothing after it"


def test_a_promise_counts_with_the_chance_of_the_test_images():
    # 5 % for each of two chances is 1.645 deviations; 10 % for as many test images 1.282 more of
    # them, at a right angle: 2.085, so 1.85 % are left out.
    assert promised(0.9, 1.0) == pytest.approx(1 - 0.01852, abs=2e-5)
    # Of endless test images nothing is left to chance.
    assert promised(0.9, 0.0) == pytest.approx(0.95)
    assert promised(0.9, 0.0) < promised(0.9, 0.5) < promised(0.95, 0.5)


@pytest.mark.parametrize("images", [270, 3750])
@pytest.mark.parametrize("worst", [0.005, 0.02])
def test_a_promise_is_kept_as_often_as_it_says(images, worst):
    """Networks that lose more the smaller they are, by chance too, and held-out and test images
    of one kind: no more than a tenth of all runs promise what the test images do not bear out.

    An image is lost where what is common to all networks and what is this one's own add up to
    little; a fifth as many are won, and one in 500.
    """
    rng = np.random.default_rng(0)
    test = images * 4 // 3
    sure, runs, made, broken = promised(0.9, 0.75), 500, 0, 0
    for _ in range(runs):
        common = rng.standard_normal(images + test)
        gains = {}

        def attempt(share, common=common, gains=gains):
            lost = min(worst * (1 / share - 0.7) * np.exp(0.3 * rng.standard_normal()), 0.5)
            own = (common + rng.standard_normal(len(common))) / 2**0.5
            right = np.where(own < ndtri(lost), 0, np.where(own > ndtri(0.998 - lost / 5), 2, 1))
            base = np.where(right == 2, 0, 1)
            found = paired_difference(right[:images] > 0, base[:images] > 0, 2 * sure - 1)
            gains[share] = (np.minimum(right, 1) - base)[images:].mean()
            return Tried(share, found, -found.low <= 0.01)

        kept = [one.share for one in descend(0.05, attempt) if one.kept]
        made += bool(kept)
        broken += bool(kept) and gains[min(kept)] < -0.01 - 1e-9
    assert broken <= 0.1 * runs
    # It is no promise that is hardly ever made where a network of 0.6 loses half a point.
    assert worst > 0.005 or made >= 0.9 * runs


def test_a_metric_goes_with_it_and_no_limit():
    assert CompressSettings(max_drop=1.0).resolved().target == "macs=1"
    speed = CompressSettings(max_drop=1.0, prefer="speed").resolved()
    assert speed.target == "latency=1" and speed.resolved() == speed
    assert CompressSettings(max_drop=1.0, target="params").resolved().target == "params=1"
    for target in ("macs=0.5", "none"):
        with pytest.raises(SettingsError, match="--max-drop finds the limit by itself"):
            CompressSettings(max_drop=1.0, target=target).resolved()
    with pytest.raises(SettingsError, match=r"confidence is a number from 0\.5 to below 1"):
        CompressSettings(max_drop=1.0, confidence=0.1).resolved()


@pytest.mark.ci
def test_from_the_command_line(tmp_path, capsys, monkeypatch):
    """A loss of 100 points is kept by any network: the lowest limit is handed over."""
    monkeypatch.setattr(drop, "ROUNDS", 2)
    words = ["compress", *TINY, "--max-drop", "100", "--episodes", "10", "--agent", "random"]
    words += ["--out", str(tmp_path)]
    assert cli.main(words) == 0
    told = capsys.readouterr().err
    report = json.loads((tmp_path / "report.json").read_text())
    found = report["drop"]
    assert found["kept"] and found["held_out_images"] == 300
    shares = [one["share"] for one in found["tried"]]
    assert found["share"] == min(shares) and all(one["kept"] for one in found["tried"])
    assert report["compressed"]["macs"] <= found["share"] * report["base"]["macs"]
    # Of this limit's search alone, whatever the limits before it took.
    assert sum(report["search"]["share"].values()) == pytest.approx(1)
    assert min(report["search"]["share"].values()) >= 0
    assert report["budget"]["limit"] == pytest.approx(found["share"] * report["base"]["macs"])
    page = (tmp_path / "report.md").read_text()
    assert told.count("Asked for: the network of the smallest MACs") == 1
    assert "## Answer" in page and "with 90 % confidence" in page.replace("\u00a0", " ")
    # Again, it goes on: nothing is searched or trained, and the same network is handed over.
    before = np.load(tmp_path / "networks" / "compressed.npz")
    assert cli.main(words) == 0
    assert "training:" not in capsys.readouterr().err
    after = np.load(tmp_path / "networks" / "compressed.npz")
    assert all(np.array_equal(before[name], after[name]) for name in before.files)
    assert "same share of every layer" not in page
    # Another loss is another run.
    words[words.index("--max-drop") + 1] = "50"
    assert cli.main(words) == cli.USER_ERROR
    assert "max_drop was 100.0, now it is 50.0" in capsys.readouterr().err


@pytest.mark.ci
def test_the_uniform_policy_gets_its_chance_where_the_search_fails(tmp_path, capsys, monkeypatch):
    """On the images of the rewards the search's network loses 90 points, the uniform one none."""
    monkeypatch.setattr(drop, "ROUNDS", 1)
    judged = []

    def difference(self, apply, variables, confidence=0.5):
        judged.append(variables)
        loss = -0.9 if len(judged) == 1 else 0.0
        return Difference(loss, loss, loss)

    monkeypatch.setattr(Beside, "difference", difference)
    words = ["compress", *TINY, "--max-drop", "1", "--episodes", "5", "--agent", "random"]
    assert cli.main([*words, "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().err
    report = json.loads((tmp_path / "report.json").read_text())
    (tried,) = report["drop"]["tried"]
    assert tried["kept"] and tried["network"] == "uniform"
    # One by one on the images of the rewards, and the better one on held-out images.
    assert len(judged) == 3 and judged[2] is judged[1]
    assert report["search"]["chosen"] is None
    assert "the uniform policy of this limit is tried" in told
    assert "the same share of every layer" in told
    # What is handed over is that network: its arrays, and its policy.
    arrays = np.load(tmp_path / "networks" / "compressed.npz")
    for name, value in judged[1].items():
        assert np.array_equal(arrays[name], value)
    shares = json.loads((tmp_path / "policy.json").read_text())["keep"]
    assert max(shares.values()) - min(shares.values()) <= 1 / 16, "the same, to a channel"

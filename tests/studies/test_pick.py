"""``pfrl pick``: what a finished study knows, at once; and one search for every limit."""

import json

import pytest

from experiments import cli
from experiments.records.history import read_history
from experiments.run.applying import read_policy
from experiments.settings.blocks import SettingsError
from experiments.settings.launching import LaunchBlock
from experiments.studies.pareto import front as pareto
from pfrl.evaluation.evaluator import NetworkEvaluator
from tests.studies.test_pareto import settings

EVALUATIONS = 12


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """One search of DDPG for two limits."""
    out = tmp_path_factory.mktemp("study") / "run"
    pareto.run(settings(out, agent="ddpg", one_search=True, episodes=EVALUATIONS // 2))
    return out


def told(capsys, study, *arguments):
    """What a command says, its exit code, and the policy that it wrote."""
    code = cli.main(["pick", str(study), *arguments])
    said = capsys.readouterr().err.splitlines()[-1]
    return said, code, study / "picked" / "policy.json"


def test_one_search_has_the_evaluations_of_all_and_limits_of_its_own(study):
    lines = read_history(study / "every-limit" / "history.jsonl")
    assert len(lines) == EVALUATIONS and len({line["limit"] for line in lines}) == EVALUATIONS
    base = json.loads((study / "base.json").read_text())["costs"]["macs"]
    assert all(0.4 <= line["limit"] <= 0.7 for line in lines)
    assert all(line["costs"]["macs"] <= line["limit"] * base for line in lines)
    page = (study / "pareto.md").read_text()
    assert "One search of `ddpg` made 12 evaluations" in page and "the agent's plan" in page
    plans = read_history(study / "every-limit" / "answers.jsonl")
    assert [plans[0]["limit"], plans[-1]["limit"]] == [0.4, 0.7]
    assert all(plan["costs"]["macs"] <= plan["limit"] * base for plan in plans)


def test_a_search_for_some_limits_is_not_gone_on_with_for_others(study, monkeypatch):
    for name in ("evaluate", "score"):
        monkeypatch.setattr(NetworkEvaluator, name, None)
    same = settings(study, agent="ddpg", one_search=True, episodes=EVALUATIONS // 2)
    before = (study / "pareto.csv").read_text()
    pareto.run(same)
    assert (study / "pareto.csv").read_text() == before
    with pytest.raises(SettingsError, match=r"one search for the limits \[0.4, 0.7\]"):
        pareto.run(settings(study, agent="ddpg", one_search=True, episodes=6, limits=(0.4, 0.6)))


@pytest.mark.parametrize("changes", [{"agent": "evolution"}, {"agent": "ddpg", "limits": (0.5,)}])
def test_one_search_is_made_where_it_makes_sense(changes, tmp_path, capsys):
    """A search for every limit where the agent can and there are several."""
    launch = LaunchBlock(dry_run=True)
    pareto.run(settings(tmp_path / "run", launch=launch, **changes))
    assert "every-limit" not in capsys.readouterr().out
    pareto.run(settings(tmp_path / "run", agent="ddpg", launch=launch))
    assert "every-limit" in capsys.readouterr().out


def test_the_best_evaluated_policy_that_meets_the_limit_is_picked(study, capsys):
    said, code, path = told(capsys, study, "--target", "macs=0.55")
    lines = read_history(study / "every-limit" / "history.jsonl")
    base = json.loads((study / "base.json").read_text())["costs"]["macs"]
    meet = [line for line in lines if line["costs"]["macs"] <= 0.55 * base]
    best = max(line["accuracy"] for line in meet)
    picked = read_policy(path).to_json()
    assert code == 0 and picked in [line["policy"] for line in meet if line["accuracy"] == best]
    assert "in every-limit: MACs" in said and "flatters the best of many" in said
    assert f"--policy {path}" in said


def test_a_plan_is_picked_for_a_limit_that_no_episode_had(study, capsys):
    said, code, path = told(capsys, study, "--target", "macs=0.437", "--plan")
    plans = read_history(study / "every-limit" / "answers.jsonl")
    base = json.loads((study / "base.json").read_text())["costs"]["macs"]
    most = max(p["costs"]["macs"] for p in plans if p["costs"]["macs"] <= 0.437 * base)
    picked = read_policy(path).to_json()
    assert code == 0 and "nobody has evaluated it" in said
    assert picked in [plan["policy"] for plan in plans if plan["costs"]["macs"] == most]


def test_the_cheapest_policy_that_loses_no_more_is_picked(study, capsys):
    lines = read_history(study / "every-limit" / "history.jsonl")
    base = json.loads((study / "base.json").read_text())["accuracy"]
    drop = max(base - sorted(line["accuracy"] for line in lines)[len(lines) // 2], 0.0) + 1e-6
    _, code, path = told(capsys, study, "--max-drop", f"{100 * drop:.8f}")
    meet = [line for line in lines if line["accuracy"] >= base - drop]
    cheapest = min(meet, key=lambda line: (line["costs"]["macs"], -line["accuracy"]))
    assert code == 0 and read_policy(path).to_json() == cheapest["policy"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give --target a limit, such as macs=0.37, or --max-drop"),
        (["--target", "macs=0.01"], "knows no policy with macs at most 1%"),
        (["--target", "latency=0.5"], "no cost of the metric latency"),
        (["--target", "speed=2"], "unknown metric 'speed'"),
        (["--max-drop", "0", "--plan"], "nobody knows what a plan loses"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(study, capsys, arguments, sentence):
    said, code, _ = told(capsys, study, *arguments)
    assert code == cli.USER_ERROR and sentence in said


def test_a_folder_without_a_search_is_refused(tmp_path, capsys):
    said, code, _ = told(capsys, tmp_path, "--target", "macs=20M")
    assert code == cli.USER_ERROR and "holds no search" in said
    said, code, _ = told(capsys, tmp_path, "--target", "macs=0.5")
    assert code == cli.USER_ERROR and "has no base.json" in said

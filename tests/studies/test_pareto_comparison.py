"""One search for every limit against one for each, where the best policies are known."""

import json
from dataclasses import replace
from typing import Any

import pytest

import agents
from agents import DDPGOptions
from envs import Problem
from experiments.studies.pareto.comparison import Method, compare, hypervolume
from experiments.studies.pareto.limits import answers, feasible, grid
from pfrl.cost import Budget
from tests.support.toy import SIZES, ToyTask, optimum

PROBLEM = Problem(ToyTask(), budget=Budget("macs", 0.5, True))
LIMITS = (0.4, 0.6, 0.8)
QUICK = DDPGOptions(hidden=(16, 16), batch=8)


def test_the_hypervolume_is_the_area_under_the_stairs():
    # 0.5 from 0.2 to 0.6 and 0.8 from there to 1, over 0.8.
    assert hypervolume([(0.6, 0.8), (0.2, 0.5)]) == pytest.approx(0.5 * 0.5 + 0.8 * 0.5)
    # What costs more and is worse adds nothing.
    assert hypervolume([(0.2, 0.5), (0.6, 0.3)]) == pytest.approx(0.5)


@pytest.mark.parametrize("agent", ["ddpg", "random"])
def test_both_ways_have_the_same_evaluations(agent):
    best = {limit: optimum(sum(SIZES) * limit, 0.2) for limit in LIMITS}
    ways = (True, False) if agent == "ddpg" else (False,)
    for one in ways:
        options = QUICK if agent == "ddpg" else None
        found = compare(PROBLEM, Method(agent, one, 0), LIMITS, each=6, options=options)
        assert found["evaluations"] == 18 and list(found["at"]) == ["0.4", "0.6", "0.8"]
        assert found["quality"] == pytest.approx(sum(found["at"].values()) / 3)
        assert (found["actor"] is not None) == one
        for limit, quality in best.items():
            assert 0.5 < found["at"][f"{limit:g}"] <= quality + 1e-9
        assert found["quality"] >= max(found["evaluated"], found["planned"] or 0) - 1e-9


@pytest.mark.parametrize(("one", "files"), [(True, 1), (False, 3)])
def test_a_comparison_that_was_stopped_goes_on(one, files, tmp_path):
    asked: dict[str, Any] = {"each": 4, "options": QUICK, "folder": tmp_path}
    whole = compare(PROBLEM, Method("ddpg", one, 0), LIMITS, **asked)
    written = {path: path.read_text() for path in tmp_path.rglob("history.jsonl")}
    assert len(written) == files and sum(map(len, map(str.splitlines, written.values()))) == 12
    for path, text in written.items():
        path.write_text("".join(text.splitlines(keepends=True)[:2]))
    assert compare(PROBLEM, Method("ddpg", one, 0), LIMITS, **asked) == whole
    policies = [[json.loads(x)["policy"] for x in p.read_text().splitlines()] for p in written]
    assert policies == [[json.loads(x)["policy"] for x in t.splitlines()] for t in written.values()]


def test_what_a_search_has_for_a_limit_meets_it():
    every = replace(PROBLEM, limits=(0.4, 0.8))
    result = agents.search("ddpg", every, 12, 0, options=QUICK)
    base = every.open().costs.base["macs"]
    some = feasible(result.history, "macs", 0.5 * base, 3)
    assert 1 <= len(some) <= 3
    assert all(e.evaluation.costs["macs"] <= 0.5 * base for e in some)
    assert [e.reward for e in some] == sorted((e.reward for e in some), reverse=True)
    for plan in (True, False):
        for answer in answers(result, every, grid((0.4, 0.42)), plan=plan):
            assert 0.4 <= answer.limit <= 0.42 and answer.costs["macs"] <= answer.limit * base
            assert answer.to_json()["policy"] == answer.policy.to_json()

"""The searchers that are not reinforcement learning, where the best policy is known."""

import itertools
import subprocess
import sys
from functools import cache
from typing import Any

import gymnasium
import numpy as np
import pytest

import agents
from agents import (
    AgentError,
    CMAESOptions,
    EvolutionOptions,
    GPOptions,
    GreedyOptions,
    TPEOptions,
    search_environment,
)
from agents.base import Recorder
from agents.search import evolution
from agents.search.evolution import mutate
from agents.search.exhaustive import search_exhaustive
from agents.search.greedy import moved
from agents.search.heuristics import log_params, raw_actions, shallow
from agents.search.proposals import fits, play_vector
from envs import Problem
from envs.choices import Decision
from pfrl.compression.policy import Policy
from pfrl.cost import Budget
from pfrl.evaluation.config import Evaluation
from tests.support.share_toy import Toy
from tests.support.toy import SIZES, ToyTask, optimum, toy_accuracy

# A Gaussian process costs most of the time here, so most of its trials are drawn at random.
QUICK = {
    "evolution": EvolutionOptions(population=5),
    "greedy": GreedyOptions(),
    "tpe": TPEOptions(n_startup_trials=4),
    "gp": GPOptions(n_startup_trials=5),
    "cmaes": CMAESOptions(popsize=4),
    "shallow": None,
    "deep": None,
}
SEEDED = [name for name, options in QUICK.items() if options is not None]
HALF = Problem(ToyTask(), budget=Budget("macs", 0.5, True))
HALF_LIMIT = 7 * sum(SIZES) / 2


class Bowl(gymnasium.Env):
    """Reward ``-mean (executed - target)²``, which is 0 at the known best actions ``target``.

    Five steps of two actions, the last of which decides nothing in the first and last step. The
    actions of an episode, shifted to [0, 2], may sum up to ``limit``: what is more is cut.
    Episodes whose number is in ``diverged`` diverge, with a reward that looks good.
    """

    live = np.array([[1, 0], [1, 1], [1, 1], [1, 1], [1, 0]], bool)
    steps = 5
    target = np.array([-0.5, 0.3, 0.6, -0.2, 0.1, 0.5, -0.7, 0.4])
    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, limit: float = 16.0, diverged: tuple[int, ...] = ()):
        self.limit = limit
        self.diverged = diverged
        self.asked: list[list[np.ndarray]] = []
        self.executed: list[list[np.ndarray]] = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.asked.append([])
        self.executed.append([])
        return np.zeros(1, np.float32), {}

    def step(self, action):
        done = len(self.asked[-1])
        assert np.abs(action).max() <= 1
        left = self.limit - sum((a + 1)[live].sum() for a, live in self._played())
        executed = np.zeros(2, np.float32)
        for knob in np.flatnonzero(self.live[done]):
            executed[knob] = min(action[knob], left - 1)
            left -= executed[knob] + 1
        self.asked[-1].append(np.array(action))
        self.executed[-1].append(executed)
        info: dict[str, Any] = {"executed_action": executed}
        reward, terminated = 0.0, done + 1 == self.steps
        if terminated:
            diverged = len(self.asked) - 1 in self.diverged
            reward = 5.0 if diverged else -float(np.mean((self.vectors()[-1] - self.target) ** 2))
            info |= {"evaluation": Evaluation(0.5, {}, 0.0, diverged), "policy": Policy()}
        return np.zeros(1, np.float32), reward, terminated, False, info

    def _played(self):
        return zip(self.executed[-1], self.live, strict=False)

    def vectors(self, of: str = "executed") -> np.ndarray:
        """``[N, D]`` of the episodes so far."""
        return np.array(getattr(self, of))[:, self.live]


@cache
def comb_env() -> gymnasium.Env:
    import envs  # noqa: F401

    return gymnasium.make("pfrl/Compression-v0", problem=HALF)


def quick(name: str, episodes: int, seed: int = 0, env: gymnasium.Env | None = None):
    return search_environment(name, env or Bowl(), episodes, seed, options=QUICK[name])


@pytest.mark.parametrize("name", list(QUICK))
@pytest.mark.parametrize("episodes", [1, 2, 7, 40])
def test_exactly_so_many_episodes_are_played(name, episodes):
    env, told = Bowl(), []
    options = GPOptions(n_startup_trials=38) if name == "gp" else QUICK[name]
    result = search_environment(name, env, episodes, 0, told.append, options=options)
    assert told == result.history
    assert [len(steps) for steps in env.asked] == [Bowl.steps] * episodes
    assert not np.array(env.asked)[:, ~Bowl.live].any()
    assert [episode.index for episode in result.history] == list(range(episodes))
    assert {episode.phase for episode in result.history} <= {"warmup", "explore"}


@pytest.mark.parametrize("name", list(QUICK))
def test_same_seed_same_search(name):
    def played(seed: int) -> np.ndarray:
        quick(name, 8, seed, env := Bowl())
        return env.vectors("asked")

    first, again, other = played(3), played(3), played(4)
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other) == (name not in SEEDED)


@pytest.mark.parametrize("name", SEEDED)
def test_the_centre_is_first_unless_the_start_is_random(name):
    kind = type(QUICK[name])
    assert agents.AGENTS[name].options is kind
    for start in ("centre", "random"):
        search_environment(name, env := Bowl(), 1, 0, options=kind(start=start))
        assert (not env.vectors("asked").any()) == (start == "centre")


@pytest.mark.parametrize(("name", "tolerance"), [
    ("evolution", 0.25), ("greedy", 0.02), ("tpe", 0.35), ("cmaes", 0.35),
    pytest.param("gp", 0.5, marks=pytest.mark.ci),
])  # fmt: skip
def test_the_optimum_of_a_bowl_is_come_near_to_and_random_is_beaten(name, tolerance):
    """``tolerance`` is what is left of random search's reward: of both the median of 3 seeds.

    The optimum is 0, and random search in 120 episodes is at -0.09.
    """
    episodes = 15 if name == "gp" else 120

    def median(name: str, options: Any = None) -> float:
        results = [search_environment(name, Bowl(), episodes, s, options=options) for s in range(3)]
        return float(np.median([result.best.reward for result in results]))

    options = QUICK[name] if name == "gp" else None
    assert 0 >= median(name, options) > tolerance * median("random")


@pytest.mark.parametrize("name", SEEDED)
def test_diverged_episodes_are_survived_and_not_believed(name):
    env = Bowl(diverged=(0, 3, 4, 9))
    result = quick(name, 12, 0, env)
    assert len(result.history) == 12
    assert not result.best.evaluation.diverged


def test_a_diverged_episode_counts_as_the_lowest_so_far():
    env = Recorder(Bowl(diverged=(2,)))
    far, near = play_vector(env, -Bowl.target), play_vector(env, Bowl.target)
    assert far.reward < near.reward == pytest.approx(0, abs=1e-12)
    assert play_vector(env, Bowl.target).reward == far.reward


def test_what_is_learned_from_is_what_the_budget_let_happen():
    played = play_vector(Recorder(env := Bowl(limit=6)), np.full(8, 0.5))
    np.testing.assert_allclose(played.executed, [0.5, 0.5, 0.5, 0.5, -1, -1, -1, -1])
    np.testing.assert_array_equal(played.executed, env.vectors()[0])
    assert env.vectors("asked")[0].tolist() == [0.5] * 8


def test_children_descend_from_executed_actions():
    """With one gene mutated in a child, all other genes are those of what parents executed."""
    options = EvolutionOptions(population=3, crossover=0, mutation=0)
    search_environment("evolution", env := Bowl(limit=6), 40, 0, options=options)
    asked, executed = env.vectors("asked"), env.vectors()
    assert np.abs(asked - executed).max() > 0.1
    for number in range(3, 40):
        changes = (np.abs(executed[:number] - asked[number]) > 1e-6).sum(axis=1)
        assert changes.min() <= 1


def test_a_mutation_changes_one_gene_at_least_and_is_reflected_at_the_ends():
    rng = np.random.default_rng(0)
    mutants = np.array([mutate(np.full(4, 0.9), 0.0, 0.4, rng) for _ in range(200)])
    assert ((mutants != 0.9).sum(axis=1) == 1).all()
    assert mutants.max() < 1
    assert mutants.min() >= -1


@pytest.mark.parametrize(("removal", "left"), [("oldest", 2.0), ("worst", 3.0)])
def test_the_oldest_or_the_worst_is_removed(removal, left, monkeypatch):
    """Rewards 3, 1, 2: a population of two loses the first or the second when the third comes."""
    env, seen = Toy(rewards=[3.0, 1.0, 2.0, 0.0]), []
    monkeypatch.setattr(evolution, "_child", lambda population, options, rng: (
        seen.append([played.reward for played in population]) or np.zeros(6)
    ))  # fmt: skip
    options = EvolutionOptions(population=2, removal=removal)
    search_environment("evolution", env, 4, 0, options=options)
    assert seen[0] == [3.0]
    assert max(seen[-1]) == left


@pytest.mark.parametrize(("name", "share"), [("evolution", 0.97), ("greedy", 0.99)])
def test_the_compression_toy_is_solved(name, share):
    """Median of three seeds against the optimum that brute force finds, which is 1.24 times what
    the centre, the uniform policy, reaches."""
    best = optimum(sum(SIZES) / 2, HALF.keep_min)
    found = [search_environment(name, comb_env(), 60, seed) for seed in range(3)]
    control = [search_environment("random", comb_env(), 60, seed) for seed in range(3)]
    reached = float(np.median([result.best.reward for result in found]))
    assert share * best < reached <= best + 1e-9
    assert reached > np.median([result.best.reward for result in control])


def test_greedy_moves_one_against_the_others_and_stays_at_the_budget():
    env = Recorder(comb_env())
    centre = play_vector(env, np.zeros(6))
    cost = env.history[-1].evaluation.costs["macs"]
    for place, by in itertools.product(range(6), (-0.5, 0.5)):
        new = moved(env, centre.executed, place, by)
        assert fits(env, new)
        others = np.delete(new, place)
        assert new[place] == pytest.approx(by)
        assert np.ptp(others) == pytest.approx(0)
        assert others[0] * by <= 0
        play_vector(env, new)
        # Channels are whole: the last few of the budget may be too few for all others.
        assert 0.85 * cost <= env.history[-1].evaluation.costs["macs"] <= HALF_LIMIT


def test_greedy_without_a_budget_moves_one_decision_alone():
    env = Recorder(Bowl())
    vector = np.full(8, 0.9)
    assert moved(env, vector, 2, 0.5).tolist() == [0.9, 0.9, 1.0, *[0.9] * 5]
    assert moved(env, vector, 0, -0.5).tolist() == pytest.approx([0.4, *[0.9] * 7])


def test_greedy_halves_its_step_after_moves_in_vain_and_starts_again():
    """From the optimum nothing is a gain: all sixteen moves of 0.4, then of 0.2, then elsewhere."""
    options = GreedyOptions(step=0.4, shortest=0.2)
    env = Bowl()
    env.target = np.zeros(8)
    search_environment("greedy", env, 34, 0, options=options)
    sizes = np.abs(env.vectors("asked")).sum(axis=1)
    np.testing.assert_allclose(sizes[:33], [0, *[0.4] * 16, *[0.2] * 16], atol=1e-6)
    assert sizes[33] > 1
    tried = {tuple(vector) for vector in env.vectors("asked")[1:17]}
    assert len(tried) == 16


class Small(Bowl):
    """Three live decisions with 2, 3 and 2 choices."""

    live = np.array([[1, 0], [1, 1]], bool)
    steps = 2
    target = np.array([0.5, 0.0, -0.5])

    class decisions:
        @staticmethod
        def all():
            places, counts = ((0, 0), (1, 0), (1, 1)), (2, 3, 2)
            for place, count in zip(places, counts, strict=True):
                yield place, Decision("keep", ("group",), tuple((n,) for n in range(count)))

        @staticmethod
        def action_of(decision, choice):
            return decision.action(choice)


def test_exhaustive_search_finds_the_optimum_in_a_fixed_order():
    result = search_environment("exhaustive", env := Small(), 12, 0)
    thirds = (-2 / 3, 0, 2 / 3)
    expected = list(itertools.product((-0.5, 0.5), thirds, (-0.5, 0.5)))
    np.testing.assert_allclose(env.vectors("asked"), expected, atol=1e-6)
    assert result.best.reward == pytest.approx(0, abs=1e-12)
    assert result.best.index == expected.index((0.5, 0, -0.5))


@pytest.mark.parametrize("episodes", [1, 11, 13])
def test_exhaustive_search_tells_how_many_episodes_it_needs(episodes):
    with pytest.raises(AgentError, match=f"needs exactly 12 episodes, got {episodes}$"):
        search_environment("exhaustive", env := Small(), episodes, 0)
    assert env.asked == []


def test_exhaustive_search_refuses_large_spaces_and_environments_without_choices():
    # keep_min leaves 13 of 16 channel counts, and 7 of 8.
    with pytest.raises(AgentError, match=f"each of the {13**2 * 7**4} combinations"):
        search_exhaustive(Recorder(comb_env()), 40, 0, None, None)
    with pytest.raises(AgentError, match="needs an environment with decisions"):
        search_exhaustive(Recorder(Toy()), 40, 0, None, None)


def test_the_profiles_by_hand():
    assert shallow(4).tolist() == [1, 1, 0, 0]
    assert shallow(5).tolist() == [1, 1, 1, 0, 0]
    assert shallow(1).tolist() == [1]
    np.testing.assert_allclose(log_params([10, 100, 1, 1000]), [1 / 3, 2 / 3, 0, 1])
    assert log_params([1, 1]).tolist() == [0, 0]


@pytest.mark.parametrize(("strength", "actions"), [
    (0.0, [1, 1, 1]),
    (0.5, [0, 0.5, 1]),
    (1.0, [-1, 0, 1]),
    (1.5, [-1, -0.5, 0]),
    (2.0, [-1, -1, -1]),
])  # fmt: skip
def test_the_actions_of_a_profile_by_hand(strength, actions):
    np.testing.assert_allclose(raw_actions(np.array([1, 0.5, 0]), strength), actions)


def test_the_rules_play_their_profiles_on_all_that_a_step_decides():
    quick("shallow", 4, env=(first := Bowl()))
    quick("deep", 4, env=(last := Bowl()))
    # Without a budget strength 1/2; then 0, 1 and 2. Of five steps, with 1 + 2 + 2 + 2 + 1
    # actions, the third is in both halves.
    front, back, whole = [[1] * 5 + [0] * 3, [0] * 3 + [1] * 5, [1] * 8]
    for env, profile in ((first, front), (last, back)):
        half, none, one = (1 - 2 * t * np.array(profile) for t in (0.5, 0.0, 1.0))
        np.testing.assert_allclose(
            env.vectors("asked"), [half, none, one, 1 - 2 * np.array(whole)], atol=1e-6
        )


@pytest.mark.parametrize("name", ["shallow", "deep", "log_params"])
def test_a_rule_first_meets_the_budget_without_being_clipped(name):
    env = comb_env()
    first = search_environment(name, env, 1, 0).history[0]
    assert HALF_LIMIT - 7 * 4 < first.evaluation.costs["macs"] <= HALF_LIMIT
    shares = np.array(list(first.policy.keep.values()))
    if name == "log_params":
        # Kernels of 4 · 16 and 4 · 8 elements, so w is 1 and 5/6. From 4 of 16 and 2 of 8 on, 12
        # and 6 steps of channels: 2·4 + 4·2 are spent with all at the least, 16 are left, so of
        # x = int(13 (1 - t)) and y = int(7 (1 - 5t/6)) 2x + 4y is 16 at the most. That is so
        # from y = 2 on, at t = 0.686, where x = 4: 8 of 16 and 4 of 8.
        assert shares.tolist() == [0.5] * 6
    else:
        # 32 of 64 channels: shallow keeps the last 32, deep the first, and the least of the
        # others has no room; so strength is above 1 and the others are cut as well.
        cut, kept = (shares[:3], shares[3:]) if name == "shallow" else (shares[3:], shares[:3])
        assert cut.max() <= 0.25 < kept.min() < 1
    assert first.reward == pytest.approx(float(toy_accuracy(shares)))


def test_log_params_needs_layers():
    with pytest.raises(AgentError, match="log_params needs an environment with layers"):
        search_environment("log_params", Bowl(), 3, 0)


@pytest.mark.parametrize(("kind", "field", "value", "message"), [
    (EvolutionOptions, "population", 0, "population is a whole number from 1, got 0"),
    (EvolutionOptions, "crossover", 1.5, "crossover is a number from 0 to 1, got 1.5"),
    (EvolutionOptions, "removal", "best", "removal is 'worst' or 'oldest', got 'best'"),
    (GreedyOptions, "start", "end", "start is 'centre' or 'random', got 'end'"),
    (GreedyOptions, "tries", 0, "tries is a whole number from 1, got 0"),
    (GreedyOptions, "step", 0.01, "step is from shortest .0.05. on, got 0.01"),
    (TPEOptions, "n_startup_trials", 0, "n_startup_trials is a whole number from 1, got 0"),
    (CMAESOptions, "popsize", 2, "popsize is a whole number from 3, got 2"),
    (CMAESOptions, "sigma0", 0.0, "sigma0 is a number above 0, got 0.0"),
])  # fmt: skip
def test_wrong_options_are_refused_in_one_sentence(kind, field, value, message):
    with pytest.raises(AgentError, match=message):
        kind(**{field: value})


def test_optuna_is_silent_and_leaves_its_settings_alone(capfd):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.INFO)
    for name in ("tpe", "gp", "cmaes"):
        quick(name, 7)
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    assert capfd.readouterr() == ("", "")


def test_optuna_is_imported_only_when_it_is_asked_for():
    names = "agents, agents.search.evolution, agents.search.greedy"
    code = f"import sys, {names}; sys.exit('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

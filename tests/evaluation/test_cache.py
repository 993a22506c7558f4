"""The cache of evaluations: what is found in it again, and by what."""

import jax
import pytest

from pfrl.compression import kept
from pfrl.compression.policy import Policy
from pfrl.cost import CostModel
from pfrl.evaluation.cache import EvaluationCache, Known, policy_key
from pfrl.evaluation.config import EpisodeConfig
from pfrl.evaluation.evaluator import NetworkEvaluator
from pfrl.evaluation.make import make_evaluator
from pfrl.files import FileError
from pfrl.graph import trace
from tests.support.tiny import TwoConvs, made, shape, stripes

DATA = stripes()
KEEPS = (1.0, 0.8, 0.6, 0.4)


class Smooth(TwoConvs):
    """The same arrays, with another activation."""

    def __call__(self, x):
        x = jax.nn.silu(self.bn1(self.conv1(x)))
        x = jax.nn.silu(self.bn2(self.conv2(x)))
        return self.linear(x.mean(axis=(1, 2)))


def traced(network=TwoConvs):
    return trace(made(network), shape(2, 8, 8, 1))


@pytest.fixture(scope="module")
def graph():
    return traced()


def plain(graph, seed=3, **config):
    episode = EpisodeConfig(batch=32, statistics_images=64, validation="xla", **config)
    return NetworkEvaluator(graph, DATA, CostModel(graph), episode, seed, False)


def evaluator(graph, cache, seed=3, **config):
    return make_evaluator(plain(graph, seed, **config), cache)


def policies(graph):
    return [Policy.uniform(graph, keep) for keep in KEEPS]


def test_an_edited_network_and_edited_code_make_another_problem(graph, monkeypatch):
    """Such as a plugin with the user's own criterion, or a file with the network."""
    evaluator, same, smooth = plain(graph), plain(traced()), plain(traced(Smooth))
    known = evaluator.identity()
    assert same.identity() == known
    assert smooth.identity() != known
    monkeypatch.setattr(kept, "digest_of_code", lambda: "another")
    assert evaluator.identity() == known  # what is running was read before
    assert plain(graph).identity() != known


def test_searches_share_what_was_evaluated(graph, tmp_path):
    cache = tmp_path / "evaluations.sqlite"
    first = evaluator(graph, cache, steps=2)
    found = [first.evaluate(policy) for policy in policies(graph)]
    assert first.hits == 0
    second = evaluator(graph, cache, steps=2)
    # What an evaluation cost is told as it was.
    assert [second.evaluate(policy) for policy in policies(graph)] == found
    assert second.hits == len(KEEPS)
    for other in (
        evaluator(graph, cache, 4, steps=2),
        evaluator(graph, cache, steps=3),
    ):
        other.evaluate(policies(graph)[0])
        assert other.hits == 0


def test_the_key_is_of_the_network_that_is_made(graph):
    group = min(graph.groups)
    same = [Policy.uniform(graph, keep) for keep in (0.50, 0.51)]
    assert same[0].counts(graph) == same[1].counts(graph)
    assert policy_key(same[0], graph) == policy_key(same[1], graph)
    others = [
        Policy.uniform(graph, 0.5, weight_bits=8),
        Policy.uniform(graph, 0.5, act_bits=8),
        Policy({**same[0].keep, group: 0.9}, same[0].weight_bits, same[0].act_bits),
    ]
    keys = {policy_key(policy, graph) for policy in [same[0], *others]}
    assert len(keys) == 4


def test_a_cache_keeps_the_first_value_and_is_one_file(tmp_path):
    path = tmp_path / "new" / "cache.sqlite"
    first, other = EvaluationCache(path, "p"), EvaluationCache(path, "q")
    assert first.get("k") is None
    first.put("k", Known(0.5, False, 2.0))
    first.put("k", Known(0.6, True, 3.0))
    assert first.get("k") == Known(0.5, False, 2.0)
    assert other.get("k") is None
    assert EvaluationCache(path, "p").get("k") == Known(0.5, False, 2.0)


def test_another_file_is_no_cache(tmp_path):
    path = tmp_path / "cache.sqlite"
    path.write_text("something else, long enough to be seen as no data base of this kind" * 9)
    with pytest.raises(FileError, match=r"cannot be used as a cache .* choose another place"):
        EvaluationCache(path, "p")

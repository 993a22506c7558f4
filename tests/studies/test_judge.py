"""The runtime that judges is measured when a study begins, and kept for all of it."""

import pytest

from envs import problem
from experiments import cli
from experiments.records.history import read_history
from experiments.studies.proxy import scores
from pfrl.evaluation import evaluator
from pfrl.evaluation.base import Choice

NETWORK = ("--model", "resnet8", "--data", "digits", "--workers", "1")
EPISODE = ("--episode.steps", "1", "--episode.batch", "16", "--episode.search-images", "60",
           "--episode.statistics-images", "16", "--recipe.repair", "none")  # fmt: skip
STUDIES = {
    "sweep": (*EPISODE, "--agents", "uniform", "--episodes", "1", "--tuning-images", "64"),
    "pareto": (*EPISODE, "--agent", "uniform", "--episodes", "1", "--no-latency",
               "--candidates", "1", "--rescore-steps", "1"),
    "proxy": ("--policies", "2", "--round-to", "1", "--long-images", "64", "--search-images", "60",
              "--fidelities", "reconstruct"),
}  # fmt: skip
FIRST_THEN_MORE = {
    "sweep": (("--seeds", "0"), ("--seeds", "0", "1")),
    "pareto": (("--limits", "0.5"), ("--limits", "0.5", "0.7")),
    "proxy": ((), ("--policies", "3")),
}


@pytest.mark.parametrize(
    "study",
    [
        pytest.param("sweep", marks=pytest.mark.ci),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("pareto", "proxy")),
    ],
)
def test_a_study_that_goes_on_is_judged_by_the_runtime_that_it_chose(study, tmp_path, monkeypatch):
    monkeypatch.setenv("PFRL_CACHE", str(tmp_path / "cache"))  # nothing was measured before
    answers = iter([Choice("onnx", {"onnx": 0.1, "xla": 0.2})])
    monkeypatch.setattr(evaluator, "choose_runtime", lambda *_: next(answers))
    out = tmp_path / "study"
    judged, judge = [], evaluator.NetworkEvaluator._judge

    def noted(self, policy, masked, name):
        judged.append(name)
        return judge(self, policy, masked, name)

    monkeypatch.setattr(evaluator.NetworkEvaluator, "_judge", noted)
    for words in FIRST_THEN_MORE[study]:
        problem._open.cache_clear()  # as in another process
        scores.evaluator_of.cache_clear()
        assert cli.main([study, *NETWORK, *STUDIES[study], *words, "--out", str(out)]) == 0
        assert judged and set(judged) == {"onnx"}
    assert len(read_history(out / "results.jsonl")) > 1

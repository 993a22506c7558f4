"""``pfrl tune``: the framework's own hyper-parameters, searched by Optuna over whole pipelines.

The policy is fixed. A trial carries it out with hyper-parameters of its own, fine-tunes the
network and is judged on the search split; the first trial is the framework's defaults. The test
split is opened once, at the end, for the defaults and the best.
"""

import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.trial import TrialState

from envs import NetworkTask, Problem
from envs.decisions import Decisions
from experiments.records.history import Line
from experiments.records.run_folder import RunFolder
from experiments.report.differences import paired_differences
from experiments.run.base_network import introduce
from experiments.run.inputs import find_weights
from experiments.run.latency import latency_in
from experiments.settings.compression import DEFAULTS
from experiments.studies.study import ONE_BY_ONE, complete
from experiments.studies.tune.pipeline import Pipeline
from experiments.studies.tune.report import write_tune_report
from experiments.studies.tune.settings import TuneSettings
from experiments.studies.tune.space import Parameter, Values, defaults_of, parameters_of
from experiments.watch.plan import Stage, planned
from experiments.watch.progress import stage
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe
from pfrl.cost import Budget
from pfrl.files import read_json, write_json
from pfrl.graph import Graph
from pfrl.training.fit import Diverged

STARTUP = 5
"""Trials before a sampler trusts its model, and before the pruner has something to compare."""
LARGEST_SEED = 2**31
DEFAULT = 1
"""Number of the trial of the defaults."""
RETRAINING = "training the {} again"
"""A stage: a trial keeps no network."""
Entry = dict[str, Any]


class Trial(NamedTuple):
    """One job: a compression under hyper-parameters that the trials before it decide about."""

    trial: int


def run(settings: TuneSettings) -> Path:
    """Do what is left of the trials, and write the results. Returns the path of tune.md.

    Raises:
      ValueError: a subclass with a sentence for the user, if something that was given is wrong.
    """
    network = settings.network
    weights = find_weights(network)
    folder = RunFolder("tune", settings, weights)
    opened = settings.space.opened()
    # A smaller rank keeps the largest singular values.
    fixed: Values = {} if opened["decompose"] is None else {"criterion": "l2"}
    recipe = Recipe(**fixed)
    task = NetworkTask(network.model, network.data, str(weights), recipe=recipe, **opened)
    with stage("loading and tracing"):
        dataset, graph = task.network()
    introduce(dataset, graph, network.model)
    policy = find_policy(settings, folder, task, graph)
    parameters = parameters_of(settings.tune, policy, fixed)
    folder.begin()
    write_json(folder.path / "policy.json", policy.to_json())
    steps = settings.steps
    pipeline = Pipeline(graph, dataset, policy, steps, settings.batch, settings.seed, fixed)
    study = open_study(settings, folder.recorded, parameters)
    work = partial(play, settings, study, pipeline, parameters)
    # One after the other, for each learns from those before it.
    jobs = [Trial(number) for number in range(DEFAULT, settings.trials + 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        left = max(settings.trials - len(folder.recorded), 0)
        again = [Stage(RETRAINING.format(name), steps, "steps") for name in ("default", "best")]
        with planned([Stage("trials", left * steps, "steps"), *again]):
            trials = complete(folder, jobs, work, ONE_BY_ONE, "trials", watched=True)
            found = outcome(folder, trials, pipeline)
    costs = task.costs(graph, None)
    result = {
        **folder.facts,
        "weights": network.weights and str(network.weights),
        "task": dataset.task.wording._asdict(),
        "costs": {"base": costs.base, "compressed": costs.of(policy)},
        **found,
    }
    write_json(folder.path / "tune.json", result)
    return write_tune_report(folder.path, result, parameters)


def find_policy(
    settings: TuneSettings, folder: RunFolder, task: NetworkTask, graph: Graph
) -> Policy:
    """The user's policy, or the uniform one under the budget; of a study that goes on, its own.

    Args:
      settings: the policy's file, or the target and the bounds of its channels.
      folder: of the study.
      task: how the network is loaded.
      graph: of the base network.

    Raises:
      PolicyError: if the file's policy does not fit the network.
      BudgetError: if the network cannot meet the budget.
    """
    own = folder.read("policy.json") if folder.begun else None
    if own is not None or settings.policy is not None:
        given = read_json(settings.policy) if own is None and settings.policy else own
        return Policy.from_json(given).checked(graph)
    budget = Budget.parse(settings.target or DEFAULTS["target"])
    latency = None
    if budget.needs_latency:
        latency = latency_in(settings.space, graph, task, settings.seed)
    problem = Problem(task, budget=budget, **settings.space.bounds())
    decisions = Decisions(problem, graph, task.counting(budget).costs(graph, latency))
    at = decisions.uniform(decisions.limit)
    if settings.sparsity:
        at.sparsity = {layer.name: settings.sparsity for layer in graph.layers}
    return at.policy(graph)


def open_study(
    settings: TuneSettings, finished: Sequence[Line], parameters: Sequence[Parameter]
) -> optuna.Study:
    """A study that knows the finished trials; the first trial of all is that of the defaults.

    Args:
      settings: sampler, pruner and seed.
      finished: the lines of earlier starts.
      parameters: what is searched.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", pruner=make_pruner(settings))
    for line in sorted(finished, key=lambda line: line["trial"]):
        trial = optuna.trial.create_trial(
            state=TrialState.PRUNED if line["pruned"] else TrialState.COMPLETE,
            value=line["quality"],
            params=line["values"],
            distributions={p.name: p.distribution for p in parameters},
            intermediate_values={steps: quality for steps, quality in line["looks"]},
            # What the pruner noted.
            system_attrs=line["notes"],
        )
        study.add_trial(trial)
    return study


def play(
    settings: TuneSettings,
    study: optuna.Study,
    pipeline: Pipeline,
    parameters: Sequence[Parameter],
    job: Trial,
) -> Entry:
    """One trial. A diverged one counts as the worst, so that the next ones stay away.

    Args:
      settings: of the study.
      study: knows all trials before; it is asked for this one and told of it.
      pipeline: compresses, trains and judges.
      parameters: what is searched.
      job: which trial this is.

    Returns:
      what the trial's line says: ``values`` by parameter, ``quality`` on the search images,
      whether it was ``pruned`` or ``diverged``, ``looks`` at the quality on the way, ``seconds``.
    """
    is_default = job.trial == DEFAULT
    if is_default:
        study.enqueue_trial(defaults_of(parameters))
    # By the trial's place alone: a search that was stopped goes on as it would have.
    study.sampler = make_sampler(settings, job.trial - 1)
    trial, start = study.ask({p.name: p.distribution for p in parameters}), time.perf_counter()
    looks: list[tuple[int, float]] = []

    def look(steps: int, quality: float) -> None:
        looks.append((steps, quality))
        trial.report(quality, steps)
        # The defaults are what all others are compared with, so they are never given up; nor is
        # what is finished.
        if not (is_default or steps == pipeline.steps) and trial.should_prune():
            raise optuna.TrialPruned

    pruned = diverged = False
    try:
        _, quality = pipeline.train(trial.params, look)
        study.tell(trial, quality)
    except optuna.TrialPruned:
        # It has the value that it was last seen with.
        pruned, quality = True, looks[-1][1]
        study.tell(trial, state=TrialState.PRUNED)
    except Diverged:
        diverged, quality = True, 0.0
        study.tell(trial, quality)
    return {
        "values": trial.params,
        "quality": quality,
        "steps": looks[-1][0] if looks else 0,
        "pruned": pruned,
        "diverged": diverged,
        "default": is_default,
        "seconds": time.perf_counter() - start,
        "looks": looks,
        "notes": study.trials[-1].system_attrs,
    }


def make_sampler(settings: TuneSettings, done: int) -> optuna.samplers.BaseSampler:
    """Who proposes the trial after so many."""
    seed = (settings.seed * 1_000_003 + done) % LARGEST_SEED
    if settings.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if settings.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=STARTUP)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True)


def make_pruner(settings: TuneSettings) -> optuna.pruners.BasePruner:
    """Who gives trials up, from half of their steps on.

    Before that the learning rate has hardly risen, and the ranks are those of the start.
    """
    half = max(settings.steps // 2, 1)
    if settings.pruner == "median":
        return optuna.pruners.MedianPruner(STARTUP, n_warmup_steps=half)
    if settings.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=half, reduction_factor=2)
    return optuna.pruners.NopPruner()


def outcome(folder: RunFolder, trials: Sequence[Line], pipeline: Pipeline) -> Entry:
    """The trials, the defaults and the best among them, and both on the test split."""
    whole = [trial for trial in trials if not trial["pruned"]]
    default = next(trial for trial in whole if trial["default"])
    # max() keeps the first of equal ones, so that the defaults win a tie.
    best = max(whole, key=lambda trial: trial["quality"])
    better = [trial["trial"] for trial in whole if trial["quality"] > default["quality"]]
    return {
        "trials": trials,
        "default": default,
        "best": best,
        "beaten_at": better[0] if better else None,
        "test": _test(folder, pipeline, default, best),
    }


def _test(folder: RunFolder, pipeline: Pipeline, default: Line, best: Line) -> Entry:
    """Both on the test split, once: what an earlier start measured of the same two is kept."""
    before = folder.read("tune.json")
    if before is not None and (before["default"]["values"], before["best"]["values"]) == (
        default["values"],
        best["values"],
    ):
        return before["test"]
    compared, variables = {"default": default, "best": best}, {}
    for name, trial in compared.items():
        if name == "best" and best["values"] == default["values"]:
            variables[name] = variables["default"]
            continue
        # A trial keeps no network; the same values make the same one again.
        with stage(RETRAINING.format(name)) as progress:
            variables[name], _ = pipeline.train(trial["values"], progress=progress)
    test = pipeline.dataset.open_test()
    found = {
        name: pipeline.qualities(trial["values"], variables[name], test)
        for name, trial in compared.items()
    }
    differences, interval = paired_differences(found["best"], {"default": found["default"]})
    return {
        "images": len(found["best"]),
        **{name: float(quality.mean()) for name, quality in found.items()},
        "best_minus_default": differences["default"]._asdict(),
        "interval": interval,
    }

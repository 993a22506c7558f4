"""``pfrl tune``: the framework's own hyper-parameters, searched by Optuna over whole pipelines.

The policy is fixed. A trial carries it out with hyper-parameters of its own, fine-tunes the
network and is judged on the search split; the first trial is the framework's defaults. The test
split is opened once, at the end, for the defaults and the best.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from envs import NetworkTask, Problem
from envs.decisions import Decisions
from envs.task import load_network
from experiments.records.machine import machine
from experiments.records.run_folder import command, versions
from experiments.run.compression import find_weights
from experiments.run.differences import paired_differences
from experiments.run.latency import measure_latency
from experiments.settings.blocks import NetworkBlock, SettingsError
from experiments.settings.compression import DEFAULTS as WISH
from experiments.studies.tune.pipeline import Pipeline
from experiments.studies.tune.report import write_tune_report
from experiments.studies.tune.settings import TuneSettings
from experiments.studies.tune.space import Parameter, defaults_of, parameters_of
from experiments.watch.progress import stage
from pfrl.compression.policy import Policy
from pfrl.cost import Budget, CostModel
from pfrl.files import FileError, read_json, write_json
from pfrl.graph import Graph
from pfrl.training.fit import Diverged

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
STARTUP = 5
"""Trials before a sampler trusts its model, and before the pruner has something to compare."""
LARGEST_SEED = 2**31
Entry = dict[str, Any]
IS_DEFAULT = "default"
"""Attribute of the trial of the defaults."""


def run(settings: TuneSettings) -> Path:
    """Do what is left of the trials, and write the results. Returns the path of tune.md.

    Raises:
      ValueError: a subclass with a sentence for the user, if something that was given is wrong.
    """
    weights = str(find_weights(NetworkBlock(settings.model, settings.data, settings.weights)))
    with stage("loading and tracing"):
        dataset, graph = load_network(settings.model, settings.data, weights)
    policy = find_policy(settings, graph, weights)
    parameters = parameters_of(settings.tune, policy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = open_study(settings, policy, parameters)
        write_json(settings.out / "policy.json", policy.to_json())
        pipeline = Pipeline(graph, dataset, policy, settings.steps, settings.batch, settings.seed)
        try:
            search(settings, study, pipeline, parameters)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise FileError(
                f"cannot write trials ({str(error).splitlines()[0]}); free some space and go on"
                " with --resume"
            ) from error
    costs = CostModel(graph)
    result = {
        "model": settings.model,
        "data": settings.data,
        "task": dataset.task.wording._asdict(),
        "costs": {"base": costs.base, "compressed": costs.of(policy)},
        "settings": settings.identity(policy),
        **outcome(settings, study, pipeline),
        "machine": machine(),
        "versions": {**versions(), "optuna": optuna.__version__},
        "command": command(),
    }
    write_json(settings.out / "tune.json", result)
    return write_tune_report(settings.out, result, parameters)


def find_policy(settings: TuneSettings, graph: Graph, weights: str) -> Policy:
    """The user's policy, or the uniform one under the budget; of a run that goes on, its own."""
    given, own = settings.policy, settings.out / "policy.json"
    if given is None and settings.resume and own.exists():
        given = own
    if given is not None:
        return Policy.from_json(read_json(given)).checked(graph)
    budget = Budget.parse(settings.target or WISH["target"])
    latency = None
    if budget.metric == "latency":
        latency = measure_latency(graph, settings.keep_min, settings.round_to, settings.seed)
    task = NetworkTask(settings.model, settings.data, weights)
    problem = Problem(
        task,
        settings.knobs,
        budget,
        keep_min=settings.keep_min,
        round_to=settings.round_to,
    )
    decisions = Decisions(problem, graph, CostModel(graph, latency))
    at = decisions.uniform(decisions.limit)
    if settings.sparsity:
        at.sparsity = {layer.name: settings.sparsity for layer in graph.layers}
    return at.policy(graph)


def open_study(
    settings: TuneSettings, policy: Policy, parameters: tuple[Parameter, ...]
) -> optuna.Study:
    """A new study whose first trial is the defaults, or the one to go on with.

    Trials that a kill left running are marked as failed, and come again.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    identity, name = settings.identity(policy), str(settings.out)
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
        url = settings.storage or f"sqlite:///{settings.out / 'study.db'}"
        storage = optuna.storages.RDBStorage(url)
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        before = study.user_attrs.get("settings")
    except (SQLAlchemyError, ImportError, RuntimeError, OSError) as error:
        # Without the URL, which may hold a password.
        place = "the --storage" if settings.storage else settings.out / "study.db"
        raise FileError(
            f"cannot keep trials in {place} ({str(error).splitlines()[0]}); choose another"
            " --storage or --out"
        ) from error
    if before is not None and not settings.resume:
        raise SettingsError(
            f"there are trials of {settings.out} already; go on with them with --resume, or choose"
            " another --out"
        )
    if before is not None and before != identity:
        changed = next(key for key in identity if before.get(key) != identity[key])
        raise SettingsError(
            f"the trials of {settings.out} were made with another '{changed}'; give the same"
            " settings, or choose another --out"
        )
    study.set_user_attr("settings", identity)
    if not study.trials:
        study.enqueue_trial(defaults_of(parameters), user_attrs={IS_DEFAULT: True})
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.enqueue_trial(trial.params, user_attrs=trial.user_attrs)
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def search(
    settings: TuneSettings,
    study: optuna.Study,
    pipeline: Pipeline,
    parameters: tuple[Parameter, ...],
) -> None:
    """Trials until there are as many as asked for."""
    study.pruner = make_pruner(settings)
    with stage("tuning", settings.trials, "trials") as progress:
        while (done := len(study.get_trials(states=FINISHED))) < settings.trials:
            # By the trial's place alone: a search that was stopped goes on as it would have.
            study.sampler = make_sampler(settings, done)
            trial = study.ask()
            values = {parameter.name: parameter.suggest(trial) for parameter in parameters}
            play(study, trial, values, pipeline)
            progress(done + 1, settings.trials)


def play(
    study: optuna.Study, trial: optuna.Trial, values: Mapping[str, Any], pipeline: Pipeline
) -> None:
    """One trial, recorded when this returns."""

    def look(steps: int, quality: float) -> None:
        trial.report(quality, steps)
        # The defaults are what all others are compared with, so they are never given up; nor is
        # what is finished.
        spared = IS_DEFAULT in trial.user_attrs or steps == pipeline.steps
        if not spared and trial.should_prune():
            raise optuna.TrialPruned

    try:
        _, quality = pipeline.train(values, look)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except Diverged:
        # Recorded as the worst, so that the sampler stays away from there.
        trial.set_user_attr("diverged", True)
        study.tell(trial, 0.0)
    else:
        study.tell(trial, quality)


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


def outcome(settings: TuneSettings, study: optuna.Study, pipeline: Pipeline) -> Entry:
    """The trials, the defaults and the best among them, and both on the test split."""
    trials = [
        _entry(place, trial)
        for place, trial in enumerate(study.get_trials(states=FINISHED), start=1)
    ]
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
        "test": _test(settings, pipeline, default, best),
    }


def _entry(place: int, trial: FrozenTrial) -> Entry:
    # A trial that was given up has the value that it was last seen with.
    return {
        "trial": place,
        "values": trial.params,
        "quality": trial.value or 0.0,
        "steps": max(trial.intermediate_values, default=0),
        "pruned": trial.state == TrialState.PRUNED,
        "diverged": trial.user_attrs.get("diverged", False),
        "default": trial.user_attrs.get(IS_DEFAULT, False),
        "seconds": trial.duration.total_seconds() if trial.duration else None,
    }


def _test(settings: TuneSettings, pipeline: Pipeline, default: Entry, best: Entry) -> Entry:
    """Both on the test split, once: what an earlier start measured of the same two is kept."""
    path = settings.out / "tune.json"
    if path.exists():
        before = read_json(path)
        if (before["default"]["values"], before["best"]["values"]) == (
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
        with stage(f"training the {name} again") as progress:
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

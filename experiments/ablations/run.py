"""Running experiments: the jobs that are left, and a table of each."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from experiments.ablations.experiment import EXPERIMENTS, Context, Shared, do, found
from experiments.ablations.listing import job_seconds
from experiments.ablations.settings import AblateSettings
from experiments.ablations.table import write_results
from experiments.records.run_folder import RunFolder
from experiments.report.studies.layout import write_layout
from experiments.run.inputs import find_weights
from experiments.studies.study import (
    ONE_BY_ONE,
    complete,
    judged_alike,
    keep_latency,
    latency_of,
    show_plan,
    task_of,
)
from experiments.watch.summary import write_summary


def run(settings: AblateSettings) -> Sequence[Path]:
    """Do what is left of the experiments' jobs, and write a table of each.

    Args:
      settings: resolved ones.

    Returns:
      The paths of the tables.

    Raises:
      ValueError: a subclass with a sentence for the user, if something that was given is wrong.
    """
    return [path for name in settings.names for path in _run(settings, name)]


def _run(settings: AblateSettings, name: str) -> list[Path]:
    experiment, shared = EXPERIMENTS[name], settings.of(name)
    weights = find_weights(shared.network)
    folder = RunFolder(f"ablate {name}", shared, weights)
    jobs = experiment.jobs(shared, settings.seeds)
    launch = ONE_BY_ONE if experiment.alone else shared.launch
    if shared.launch.dry_run:
        seconds = job_seconds(experiment, settings.scale)
        show_plan(folder, jobs, launch, "jobs", lambda job: seconds)
        return []
    context = _prepared(name, folder, shared, str(weights))
    # Before the first job ends, for reports on what is there.
    write_layout(folder.path, experiment.layout)
    lines = complete(folder, jobs, partial(do, context), launch, "jobs")
    if experiment.derive:
        lines = found(experiment.derive)(lines)
    write_summary(folder.path)
    return write_results(folder.path, name, lines, folder.facts, experiment)


def _prepared(name: str, folder: RunFolder, shared: Shared, weights: str) -> Context:
    """What the jobs share. What is measured at the start is kept in the folder."""
    latency = None
    if EXPERIMENTS[name].latency:
        task = task_of(shared, weights)
        _, graph = task.network()
        latency = keep_latency(folder, latency_of(shared, folder, graph, task))
    alike = judged_alike(folder, task_of(shared, weights, latency=latency))
    return Context(name, replace(shared, episode=alike), weights, latency)

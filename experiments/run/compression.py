"""``pfrl compress``: from a trained network and an objective to a smaller network, measured."""

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from envs import NetworkTask
from envs.decisions import Decisions
from experiments.records.run_folder import VALIDATION, RunFolder
from experiments.records.wording import percent
from experiments.report.answer import answer_lines
from experiments.report.run_report import write_report
from experiments.report.sections import verdict
from experiments.run.base_network import introduce, tell_little_left
from experiments.run.choose import Chosen, choose
from experiments.run.drop import fewer_rewarded, search_limits
from experiments.run.files import SHIPPED
from experiments.run.finish import finish
from experiments.run.inputs import check, needs_latency
from experiments.run.latency import (
    LATENCY_FILE,
    SECONDS,
    IntegerShares,
    integer_shares,
    latency_in,
)
from experiments.run.search import Searched, make_problem, make_task, search
from experiments.run.training import STAGE, tell_length, training_steps
from experiments.settings.compression import CompressSettings
from experiments.watch.plan import Stage, planned
from experiments.watch.progress import stage, tell
from pfrl.cost import Budget, BudgetError
from pfrl.data import Dataset
from pfrl.deploy.onnx.export import export_onnx
from pfrl.deploy.onnx.saturation import saturates
from pfrl.deploy.runtimes.base import file_runtime
from pfrl.files import write_json
from pfrl.graph import Graph

INTEGERS = "integers.json"
"""Whether the processor that began the run cuts off sums of int8 products, and how fast integers
are there."""
FASTER = 0.9
"""Share of the float network's latency from which on integers are worth their rounding."""
NOT_USED = "with integers no network meets the target: they are not used"
MORE_REMOVED = (
    "with integers more channels would have to go for the target than without: they are not used;"
    " --int8 fastest uses them"
)


def run(settings: CompressSettings) -> list[Path]:
    """The main job: from a trained network to a smaller one that was measured.

    Args:
      settings: of the command.

    Returns:
      The files to look at: the report and the exported network.

    Raises:
      ValueError: a subclass with a sentence for the user, if something that
        was given is wrong; before the first episode, as far as it can be known.
    """
    settings = settings.resolved()
    weights = check(settings)
    folder = RunFolder("compress", settings, weights, "history.jsonl")
    with stage("loading and tracing"):
        dataset, graph = make_task(settings, weights, None).network()
    introduce(dataset, graph, settings.network.model)
    integers = folder.read(INTEGERS) or {"saturates": saturates()}
    floats = settings
    if settings.space.int8 is None and not settings.space.opened()["quantized"]:
        settings = faster(settings, graph, integers)
    taken = settings is not floats
    settings = on_this_processor(settings, integers["saturates"])
    task = make_task(settings, weights, None)
    tell_length(settings.finish, dataset)
    if settings.max_drop is not None:
        settings = fewer_rewarded(settings, dataset)
    episode = dataclasses.replace(task, episode=settings.episode).suited(graph)
    if settings.episode.fidelity == "auto" and not episode.tuning_steps:
        tell(
            "pictures of this size take a CPU seconds a gradient step: networks of the search are"
            " repaired and judged without any (--episode.fidelity finetune)"
        )
    evaluations = settings.length.evaluations(episode.images_each(len(dataset.search)))
    with planned(stages(settings, dataset, evaluations)):
        if not folder.begun:
            try:
                prepare(settings, task, graph)
            except BudgetError:
                if not taken or settings.max_drop is not None:
                    raise
                # A small network can be faster with integers, and a pruned one without.
                tell(NOT_USED)
                integers["within_reach"] = False
                settings, task = floats, make_task(floats, weights, None)
                prepare(settings, task, graph)
        folder.begin()
        folder.kept(INTEGERS, lambda: integers)
        table = folder.path / LATENCY_FILE if needs_latency(settings) else None
        if settings.max_drop is None:
            judge = (folder.read(VALIDATION) or {}).get("runtime")
            problem = make_problem(settings, make_task(settings, weights, table, judge))
            searched = search(settings, folder, problem, evaluations)
            chosen = choose(settings, folder, searched)
            report = _finished(settings, folder, searched, chosen)
        else:
            found = search_limits(settings, folder, weights, table, evaluations)
            report = _finished(found.settings, folder, found.searched, found.chosen)
            report["drop"] = found.facts
        report["prefer"] = settings.prefer
        write_json(folder.path / "report.json", report)
    tell(verdict(report), *answer_lines(report))
    model = folder.path / f"model{file_runtime(settings.space.latency_runtime).suffix}"
    return [write_report(folder.path), model if model.exists() else folder.path / "model.onnx"]


def _finished(
    settings: CompressSettings, folder: RunFolder, searched: Searched, chosen: Chosen
) -> dict[str, Any]:
    """The report of what was chosen, and of the search that it was chosen from."""
    policy, uniform = chosen.candidate.policy, chosen.uniform.policy
    report = finish(settings, folder, searched.problem, chosen.decisions, policy, uniform)
    searching = {**searched.facts, **chosen.facts}
    return {**report, "episodes": len(searched.result.history), "search": searching}


def faster(settings: CompressSettings, graph: Graph, integers: dict[str, Any]) -> CompressSettings:
    """With integers, if the network is faster with them on this machine.

    Args:
      settings: resolved ones, of floats.
      graph: of the base network.
      integers: gets ``share``, the latency with integers over that with floats (null if there can
        be none), unless it has it already; ``within_reach`` becomes false in it where no network
        with integers meets the target, or only one with fewer channels than without them.
    """
    if "share" not in integers:
        found = integer_shares(graph, settings.space)
        integers["share"] = None if found is None else found.base
        if found and found.base <= FASTER and (reason := against_integers(settings, found)):
            integers["within_reach"] = False
            tell(reason)
    share = integers["share"]
    if share is None or share > FASTER or not integers.get("within_reach", True):
        return settings
    tell(
        f"with integers of 8 bits the network takes {percent(share, 1)} of its time here: they are"
        " used; --int8 none does without"
    )
    return settings.rounded()


def against_integers(settings: CompressSettings, shares: IntegerShares) -> str | None:
    """Why a share of the latency that is asked for is better met without integers, if it is.

    Known before all layers are measured, which takes long; what this cannot tell (other knobs than
    ``keep``, milliseconds) the latency model does.

    Args:
      settings: resolved ones.
      shares: of this network on this machine.
    """
    if settings.max_drop is not None or settings.space.knobs != ("keep",):
        return None
    budget = Budget.parse(settings.target or "")
    if budget.metric != "latency" or not budget.relative:
        return None
    if shares.smallest > budget.value:
        return NOT_USED
    return MORE_REMOVED if shares.removes_more(budget.value) else None


def on_this_processor(settings: CompressSettings, saturates: bool) -> CompressSettings:
    """With integers as every processor computes them right, if this one needs it."""
    if settings.space.int8 == "fastest" and saturates:
        return dataclasses.replace(
            settings, space=dataclasses.replace(settings.space, int8="portable")
        )
    return settings


def stages(settings: CompressSettings, dataset: Dataset, evaluations: int) -> list[Stage]:
    """What a run does, in order, as far as it takes long.

    Args:
      settings: resolved ones.
      dataset: of the run.
      evaluations: of its search.
    """
    if settings.max_drop is not None:
        return []  # how many limits will be tried is not known
    finish = settings.finish
    steps = training_steps(finish, dataset)
    kinds = 2 if settings.space.opened()["quantized"] else 1
    measuring = ["measuring layers", "measuring layers of integers"][:kinds]
    measured = [*(Stage(name, SECONDS) for name in measuring)]
    measured.append(Stage("measuring networks", kinds * SECONDS))
    networks = 3 if settings.controls else 1
    return [
        *(measured if needs_latency(settings) else []),
        Stage("search", evaluations, "episodes"),
        Stage("re-scoring candidates", finish.candidates + 1, "networks"),
        *([Stage(STAGE, networks * steps, "steps")] if steps else []),
        Stage("measuring latency", (networks + 1 + len(SHIPPED)) * finish.seconds),
    ]


def prepare(settings: CompressSettings, task: NetworkTask, graph: Graph) -> None:
    """See to it that a run can end well before anything of it is written; measure its latencies.

    Args:
      settings: resolved ones.
      task, graph: what is compressed.

    Raises:
      ExportError: if the network cannot be handed over.
      BudgetError, ProblemError: if the budget cannot be met, or nothing can be decided.
    """
    check_export(graph)
    latency = None
    if needs_latency(settings):
        latency = latency_in(settings.space, graph, task, settings.seed)
    problem = make_problem(settings, task)
    costs = task.counting(problem.budget).costs(graph, latency)
    tell_little_left(Decisions(problem, graph, costs), costs)
    if latency is not None:
        # Before config.json, which makes it a run: a kill in between leaves nothing to resume.
        write_json(settings.out / LATENCY_FILE, latency.to_json())


def check_export(graph: Graph) -> None:
    """Export the base network once and throw it away.

    A network that cannot be handed over is refused before the search, not after it.

    Raises:
      ExportError: if it has an operation that the exporter does not know.
    """
    source = graph.source
    with stage("checking the export"), TemporaryDirectory() as folder:
        export_onnx(
            lambda x: source.apply(source.variables, x, False)[0],
            graph.input_shape,
            Path(folder) / "base.onnx",
        )

"""``pfrl apply``: a given policy is carried out, trained in full, exported and measured."""

import json
from dataclasses import replace
from pathlib import Path

from envs.decisions import Decisions
from experiments.records.run_folder import RunFolder
from experiments.report.run_report import write_report
from experiments.report.sections import verdict
from experiments.run.base_network import introduce
from experiments.run.compression import check_export
from experiments.run.finish import finish
from experiments.run.inputs import find_weights
from experiments.run.search import make_problem, make_task
from experiments.run.training import tell_length
from experiments.settings.applying import ApplySettings
from experiments.settings.blocks import LengthBlock, SpaceBlock
from experiments.settings.compression import NO_TARGET, CompressSettings
from experiments.watch.progress import stage, tell
from pfrl.compression.policy import Policy, PolicyError
from pfrl.cost.model import Assignment
from pfrl.evaluation.config import EpisodeConfig
from pfrl.files import FileError, write_json
from pfrl.graph import Graph
from pfrl.methods.quantization.uniform import FLOAT_BITS

AGENT = "given policy"
"""Who decided, as the report says."""


def run(settings: ApplySettings) -> list[Path]:
    """Carry out a policy.

    Args:
      settings: of the command.

    Returns:
      The files to look at: the report and the exported network.

    Raises:
      ValueError: a subclass with a sentence for the user, if something that was given is wrong;
        before anything is written.
    """
    settings = settings.resolved()
    weights = find_weights(settings.network)
    given = None if settings.policy is None else read_policy(settings.policy)
    as_run = _as_run(settings, given)
    folder = RunFolder("apply", settings, weights)
    task = make_task(as_run, weights, None)
    with stage("loading and tracing"):
        dataset, graph = task.network()
    policy = given.checked(graph) if given is not None else uniform_policy(settings, graph)
    introduce(dataset, graph, settings.network.model)
    tell_length(settings.finish, dataset)
    if not folder.begun:
        check_export(graph)
    problem = make_problem(as_run, task)
    with stage("compiling"):
        opened = problem.open()
    decisions = Decisions(problem, graph, opened.costs)
    folder.begin()
    like = decisions.uniform(decisions.cost(Assignment.of(policy, graph))).policy(graph)
    write_json(folder.path / "policy.json", policy.to_json())
    report = finish(as_run, folder, problem, decisions, policy, like)
    report |= {"search": {}, "episodes": 0}
    del report["artefacts"]["tensorboard"]  # there are no curves of a search
    write_json(folder.path / "report.json", report)
    tell(verdict(report))
    return [write_report(folder.path), folder.path / "model.onnx"]


def read_policy(path: Path) -> Policy:
    """The policy of a JSON file.

    Raises:
      FileError: if the file cannot be read or is no JSON.
      PolicyError: if it holds no policy.
    """
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(
            f"{path} is no JSON file that can be read ({type(error).__name__}); expected a"
            " policy.json as a run writes it"
        ) from error
    try:
        return Policy.from_json(value)
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from error


def uniform_policy(settings: ApplySettings, graph: Graph) -> Policy:
    """What ``--keep``, ``--bits`` and ``--sparsity`` say, the same for every group and layer."""
    bits = settings.bits or FLOAT_BITS
    keep = 1.0 if settings.keep is None else settings.keep
    policy = Policy.uniform(graph, keep, bits, bits, settings.round_to)
    if settings.bits is not None:
        policy = policy.with_edges(graph, settings.edge_bits)
    if settings.sparsity:
        inner = [layer.name for layer in graph.layers[1:-1]]
        policy = replace(policy, sparsity=dict.fromkeys(inner, settings.sparsity))
    return policy.checked(graph)


def _as_run(settings: ApplySettings, policy: Policy | None) -> CompressSettings:
    """The settings of a run without a budget whose search is one given policy."""
    if policy is None:
        bits, sparse = settings.bits is not None, bool(settings.sparsity)
        decided = {"weight_bits": bits, "act_bits": bits, "sparsity": sparse}
    else:
        decided = {
            "weight_bits": min(policy.weight_bits.values(), default=FLOAT_BITS) < FLOAT_BITS,
            "act_bits": min(policy.act_bits.values(), default=FLOAT_BITS) < FLOAT_BITS,
            "sparsity": any(policy.sparsity.values()),
        }
    decided["rank"] = settings.decompose is not None
    knobs = ("keep", *(name for name, wanted in decided.items() if wanted))
    return CompressSettings(
        network=settings.network,
        target=NO_TARGET,
        space=SpaceBlock(knobs=knobs, round_to=settings.round_to, decompose=settings.decompose),  # type: ignore[arg-type]
        agent=AGENT,
        length=LengthBlock(1),
        seed=settings.seed,
        out=settings.out,
        # Nothing is judged but the files at the end: no runtimes are compared for it.
        episode=EpisodeConfig(statistics_images=settings.statistics_images, validation="xla"),
        recipe=settings.recipe,
        finish=settings.finish,
        controls=settings.controls,
    ).resolved()

"""The report of a run: ``report.md`` and its pictures, from the files of the run directory."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.records.history import Line, chosen_position, read_history
from experiments.records.wording import described, sentence
from experiments.report import evidence, pictures, sections
from experiments.report.answer import answer
from experiments.report.policy_picture import policy_figure
from experiments.report.shipping import ship
from pfrl.files import FileError, write_text


def write_report(run_dir: Path) -> Path:
    """Write ``report.md``, ``search.png``, ``tradeoff.png`` and ``policy.png`` into ``run_dir``.

    Reads ``report.json`` and, as far as they are there, ``policy.json``,
    ``history.jsonl`` and ``config.json``. What a run did not do (controls,
    bits, a search) is left out.

    The page begins with what somebody who asked for a faster network wants to
    know and ends with what somebody who repeats the run needs.

    Returns:
      The path of ``report.md``.

    Raises:
      FileError: if ``report.json`` is missing, a file is damaged, or the
        directory cannot be written to.
    """
    report = _read_json(run_dir / "report.json")
    if report is None:
        raise FileError(
            f"no report.json in {run_dir}: the run is not finished; start the same command again"
        )
    policy = _read_json(run_dir / "policy.json")
    config = _read_json(run_dir / "config.json")
    history = read_history(run_dir / "history.jsonl")
    chosen = chosen_position(history, policy)
    shown = _draw(run_dir, report, policy, history, chosen)
    parts = [
        sections.headline(report),
        answer(report),
        sections.result(report),
        sections.files(report, run_dir),
        ship(report, sections.places(report, run_dir)),
        evidence.layers(report, policy, shown.get("policy", "")),
        evidence.search(report, history, chosen, shown),
        evidence.measured(report),
        evidence.notes(report, policy),
        evidence.reproduce(report, config),
    ]
    return write_text(run_dir / "report.md", "\n\n".join(filter(None, parts)) + "\n")


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise FileError(f"{path} is no whole JSON file ({error}); run the command again") from error


def _draw(
    run_dir: Path,
    report: sections.Entry,
    policy: sections.Entry | None,
    history: Sequence[Line],
    chosen: int | None,
) -> dict[str, str]:
    """Draw what there is data for; returns the Markdown of each picture by its name."""
    figures, wording = {}, sections.wording_of(report)
    quality = sentence(wording.metric)
    if policy is not None:
        text = "Channels kept and bits, layer by layer"
        figures["policy"] = policy_figure(policy, groups=report.get("groups")), text
    if history:
        text = f"{quality} of every episode of the search"
        figures["search"] = pictures.search_figure(history, chosen, wording), text
        metric = sections.metric_of(report)
        figure = pictures.tradeoff_figure(
            history,
            metric,
            (report.get("budget") or {}).get("limit"),
            sections.base_cost(report),
            chosen,
            (report.get("search") or {}).get("uniform"),
            wording,
            (sections.files_of(report).title or "ONNX Runtime") if metric == "latency" else None,
        )
        figures["tradeoff"] = figure, f"{quality} against {described(metric).title} of all episodes"
    for name, (figure, _) in figures.items():
        pictures.save_png(run_dir / f"{name}.png", figure)
    return {name: f"![{text}]({name}.png)" for name, (_, text) in figures.items()}

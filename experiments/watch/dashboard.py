"""What TensorBoard shows of every search without being asked: its first page, its metrics."""

from collections.abc import Mapping

from experiments.records.run_folder import command
from experiments.records.wording import table

METRICS = ("pfrl/best_accuracy", "pfrl/best_reward", "pfrl/budget_spent", "pfrl/seconds",
           "pfrl/evaluations_per_minute")  # fmt: skip
"""Tags that the table of hyper-parameters shows beside each run: their last values."""

BAND = ("seeds/best_accuracy", "seeds/best_accuracy_lowest", "seeds/best_accuracy_highest")
"""Tags of a run that stands for all seeds: mean, lowest and highest of the seeds' best so far."""

LAYOUT = {
    "How is the search going?": {
        "Is it learning? Reward of each network, and the best so far": [
            "Multiline", ["pfrl/reward$", "pfrl/best_reward$"]],
        "Does it hold the budget? Cost as a share of the limit: at most 1": [
            "Multiline", ["pfrl/budget_spent$"]],
        "What has it found? Accuracy of the best network so far": [
            "Multiline", ["pfrl/best_accuracy$"]],
    },
    "All seeds together (when a study has ended)": {
        "Best accuracy so far: mean, lowest and highest seed": ["Margin", [*BAND]],
    },
    "How fast is it, and is anything wrong?": {
        "Evaluations per minute": ["Multiline", ["pfrl/evaluations_per_minute$"]],
        "Diverged trainings": ["Multiline", ["pfrl/diverged$"]],
    },
    "The agent": {
        "Losses": ["Multiline", ["train/.*loss$"]],
        "Mean reward of late": ["Multiline", ["rollout/ep_rew_mean$"]],
    },
}  # fmt: skip
"""The page of custom scalars; tags are regular expressions, the step is the episode."""


def settings_text(settings: Mapping[str, str | float]) -> str:
    """Markdown of what makes a search, with the command it belongs to."""
    rows = [(name, f"`{value}`") for name, value in settings.items()]
    shown = table(("setting", "value"), rows, 2) if rows else ""
    return f"{shown}\n\n`{command()}`".strip()

"""The trainings in full after a search: of one network, or of several, a process on each core."""

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from dataclasses import dataclass, replace
from math import ceil
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import jax
import numpy as np

from envs import NetworkTask
from envs.task import load_network
from experiments.settings.compression import FinishConfig
from experiments.watch.progress import Update, stage, tell
from pfrl.compression.sliced import Compressed
from pfrl.cpu import core_pool, cores
from pfrl.cpu.backend import compiled
from pfrl.cpu.precision import at_precision
from pfrl.data import Dataset
from pfrl.evaluation.validation import split_search
from pfrl.files import load_arrays, save_arrays
from pfrl.graph import Source, Variables
from pfrl.tasks.outputs import as_one
from pfrl.training.fit import Diverged, FitConfig, fit, mean_quality, steps_of
from pfrl.training.plateau import Plateau
from pfrl.training.step import Distillation

ENOUGH_EPOCHS, FEWEST_EPOCHS = 40, 10
"""Passes over the training images: of few images so many, of many fewer, but not less; ..."""
FEWEST_STEPS, ENOUGH_STEPS = 300, 1_000
"""... in so many steps at least, and the first number of passes in no more than so many."""
JUDGEMENTS, JUDGED = 10, 1_000
"""How often a training of all of its steps is judged, and on how many search images at most."""
PATIENCE, EARLIEST = 3, 0.8
"""Judgements without a rise after which a training ends, and after which share of its steps: then
the learning rate is a seventh of its peak. Stopped at half of the steps, where few search images
hide a rise, ResNet-8 on 1,440 pictures of CIFAR-10 lost 1.5 points of accuracy."""
STAGE = "training"
"""What the progress of all trainings is called."""
POLL_SECONDS = 0.2
"""Between two looks at the other processes."""

Tell = Callable[[str, int, int, float], None]
"""Told ``(network, steps done, steps in all, loss)``."""


class Stopped(Exception):
    """The process that asked for a training does not want it any more."""


@dataclass(frozen=True)
class Training:
    """A training of the compressed network or of a control: plain data but for a graph."""

    name: str
    """What the report and the files call the network."""
    task: NetworkTask
    """The base network, which is the teacher, and the data."""
    compressed: Compressed | None
    """What is trained; None is the base network itself."""
    finish: FinishConfig
    """How it is trained."""
    seed: int
    """Of shuffling and augmentation."""
    folder: Path
    """Where its arrays and checkpoints are kept."""
    rewarded: int | None = None
    """Judged, to end it in time, on the search images that so many in rewards are; the others are
    then held out from this network altogether. None is the whole search split."""

    @property
    def path(self) -> Path:
        """Where the arrays of the finished training are."""
        return self.folder / f"{self.name}.npz"

    def begin(self) -> "Started":
        """Load what it needs."""
        task, small = self.task, self.compressed
        dataset, base = load_network(task.model, task.data, task.weights)
        if small is None:
            return Started(dataset, base.source, base.source)
        if small.graph is None:
            small = replace(small, graph=task.network()[1])
        return Started(dataset, base.source, small)


@dataclass(frozen=True)
class Started:
    """A training whose network and data are loaded."""

    dataset: Dataset
    base: Source
    network: Source | Compressed


def fit_config(finish: FinishConfig, dataset: Dataset, seed: int) -> FitConfig:
    """The full training: the same for the compressed network and for the controls.

    Args:
      finish: what the user set.
      dataset: whose size decides how many epochs there are by default.
      seed: of the training.
    """
    epochs = finish.epochs
    if epochs is None:
        a_pass = max(len(dataset.train) // finish.batch, 1)
        few = min(max(ENOUGH_EPOCHS * a_pass, FEWEST_STEPS), ENOUGH_STEPS)
        epochs = max(few / a_pass, float(FEWEST_EPOCHS))
    return FitConfig(
        epochs=epochs,
        batch=finish.batch,
        learning_rate=finish.learning_rate,
        seed=seed,
        precision=finish.precision,
        ghost_batches=finish.ghost_batches,
    )


def training_steps(finish: FinishConfig, dataset: Dataset) -> int:
    """How many steps the training in full has at most; 0 if there is none."""
    return 0 if finish.epochs == 0 else steps_of(fit_config(finish, dataset, 0), dataset)


def tell_length(finish: FinishConfig, dataset: Dataset) -> None:
    """Say before a run how long the training in full is, and how it is made shorter.

    How much time that takes is shown once its first steps have been made.
    """
    if not (steps := training_steps(finish, dataset)):
        tell("the network that is chosen will not be trained (--finish.epochs 0)")
        return
    config = fit_config(finish, dataset, 0)
    tell(
        f"the network that is chosen will be trained in {steps:,} steps of"
        f" {config.batch}, {config.epochs:.3g} passes over the training images (--finish.epochs)"
    )


def train_all(
    trainings: Sequence[Training], note: Callable[[str], None]
) -> dict[str, dict[str, np.ndarray]]:
    """Train with distillation from the base network; what an earlier start finished is read back.

    A training that diverges is repeated once at a tenth of the learning rate. One that ends with a
    network that is worse than it was before leaves it as it was: a network that has lost little
    loses more in a short training.

    Args:
      trainings: several are carried out on a CPU by a process on each core. What they end with
        does not depend on the number of cores.
      note: is told a sentence for the report, if a training diverged or made a network worse.

    Returns:
      The arrays that they ended with, by name.

    Raises:
      Diverged: if one diverges at a tenth of the learning rate, too.
      FileError: if the folder cannot be written to.
    """
    left = [each for each in trainings if not each.path.exists()]
    for each in left:
        if each.finish.epochs == 0:
            _save(each, each.begin().network.variables)
    left = [each for each in left if each.finish.epochs != 0]
    # Processes of one core even for the last one: XLA's sums depend on how many cores it sees.
    apart = len(trainings) > 1 and jax.default_backend() == "cpu"
    if left:
        with stage(STAGE) as progress:
            shown = _together(progress, len(left))
            if apart:
                _side_by_side(left, min(len(left), len(cores())), shown)
            else:
                for each in left:
                    _train(each, shown)
    found = {}
    for each in trainings:
        found[each.name], meta = load_arrays(each.path)
        if meta["diverged"]:
            note(
                f"The training of '{each.name}' diverged and was repeated at a tenth of the"
                " learning rate."
            )
        if meta["untrained"]:
            note(
                f"The training of '{each.name}' made it worse on the search images, so it was left"
                " as it was before. Longer training, or a lower learning rate, may do better."
            )
    return found


def _together(progress: Update, count: int) -> Tell:
    """The progress of so many trainings as one."""
    steps: dict[str, tuple[int, int]] = {}

    def tell(name: str, done: int, total: int, loss: float) -> None:
        steps[name] = done, total
        # Of trainings that were not heard of yet: they are as long as this one.
        unknown = (count - len(steps)) * total
        counts = steps.values()
        progress(sum(n for n, _ in counts), sum(n for _, n in counts) + unknown, loss)

    return tell


def _train(training: Training, tell: Tell) -> None:
    """Carry out a training, and write its arrays."""
    started = training.begin()
    dataset, network = started.dataset, started.network
    config = fit_config(training.finish, dataset, training.seed)
    if config.precision == "auto" and training.compressed and training.compressed.quantized:
        # Rounded twice, values of eight bits would not be those of the file.
        config = replace(config, precision="float32")
    soft = Distillation(
        training.finish.distillation_weight,
        training.finish.temperature,
        divergence=dataset.task.divergence,
    )
    teach, predict = _answers(started.base, config.precision, threads=1), _answers(network)
    known = started.base.variables
    steps = steps_of(config, dataset)
    every = ceil(steps / JUDGEMENTS)

    split = dataset.search
    if training.rewarded is not None:
        split, _ = split_search(split, training.rewarded)
    count = min(len(split), JUDGED)
    judged = split.take(np.linspace(0, len(split) - 1, count).round().astype(int))

    def quality(variables: Variables) -> float:
        return mean_quality(lambda x: predict(variables, x), dataset, judged)

    plateau = Plateau(quality, count, every, PATIENCE * every, round(EARLIEST * steps))

    def run(config: FitConfig) -> Variables:
        return fit(
            network.apply,
            network.variables,
            network.trainable,
            dataset,
            config,
            teacher=(lambda x: teach(known, x)) if soft.weight > 0 else None,
            distillation=soft,
            progress=lambda done, steps, loss: tell(training.name, done, steps, loss),
            checkpoint=training.folder / f"{training.name}.checkpoint.npz",
            plateau=plateau,
        )

    diverged = False
    try:
        variables = run(config)
    except Diverged:
        diverged = True
        variables = run(replace(config, learning_rate=config.learning_rate / 10))
    if worse := quality(variables) < quality(network.variables):
        variables = network.variables
    _save(training, variables, diverged, worse)


def _save(
    training: Training, variables: Variables, diverged: bool = False, untrained: bool = False
) -> None:
    arrays = {name: np.asarray(value) for name, value in variables.items()}
    facts = {"network": training.name, "diverged": diverged, "untrained": untrained}
    save_arrays(training.path, arrays, facts)


def _answers(
    network: Source | Compressed, precision: str | None = None, threads: int | None = None
) -> Callable[[Variables, Any], Any]:
    def answers(variables: Variables, x: Any) -> Any:
        return as_one(network.apply(variables, x, False)[0])

    # Without a precision as the backend does by itself: what is judged is not what is trained.
    answers = answers if precision is None else at_precision(answers, precision)
    return compiled(answers, threads=threads)


def _side_by_side(trainings: Sequence[Training], workers: int, tell: Tell) -> None:
    """Carry out trainings in processes of one core each."""
    context = multiprocessing.get_context("spawn")
    news, stop = context.Queue(), context.Event()
    pool = core_pool(workers, _take, news, stop)
    try:
        left = {pool.submit(_train_here, _without_graph(each)) for each in trainings}
        while left:
            done, left = wait(left, POLL_SECONDS, FIRST_EXCEPTION)
            while not news.empty():
                tell(*news.get())
            for each in done:
                each.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _without_graph(training: Training) -> Training:
    """What can be sent to another process, which traces the same graph again."""
    small: Any = training.compressed
    return training if small is None else replace(training, compressed=replace(small, graph=None))


_reports: list[tuple[Any, Event]] = []
"""In a worker: where its progress goes, and whether it shall stop."""


def _take(news: Any, stop: Event) -> None:
    # An interrupt is for the process that asked: it says when to stop, and after which step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _reports.append((news, stop))


def _train_here(training: Training) -> None:
    news, stop = _reports[0]

    def tell(*report: Any) -> None:
        news.put(report)
        if stop.is_set():
            raise Stopped

    _train(training, tell)

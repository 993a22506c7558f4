"""``pfrl pretrain``: train a network of the zoo and save its weights."""

from pathlib import Path

from flax import nnx

from experiments.records.run_folder import command
from experiments.settings.training import PretrainSettings
from experiments.watch.progress import stage
from pfrl.data import Split, load
from pfrl.files import save_arrays
from pfrl.graph import from_nnx
from pfrl.models.catalogue import build, check_answers
from pfrl.training.backend import compiled
from pfrl.training.fit import FitConfig, fit, mean_quality


def run(settings: PretrainSettings) -> Path:
    """Train, save, and return the path of the weights.

    The file's meta tells the command and what the task's metric was on the search split. An
    interrupted training goes on from its last checkpoint when started again.
    """
    model, data = settings.network.model, settings.network.data
    dataset = load(data)
    task = dataset.task
    check_answers(model, task.dense)
    outputs = task.outputs(len(dataset.classes))
    network = build(model, outputs, dataset.image_shape, nnx.Rngs(settings.seed))
    source = from_nnx(network)
    data_name = data.replace(":", "_").replace("/", "_")
    out = settings.out or Path("runs/pretrained") / f"{model}_{data_name}.npz"
    config = FitConfig(
        settings.epochs,
        settings.batch,
        settings.learning_rate,
        weight_decay=settings.weight_decay,
        optimizer=settings.optimizer,
        seed=settings.seed,
    )
    with stage(f"training {model} on {data}") as progress:
        variables = fit(
            source.apply,
            source.variables,
            source.trainable,
            dataset,
            config,
            progress=progress,
            checkpoint=out.with_name(out.name + ".checkpoint.npz"),
        )
    predict = compiled(lambda v, x: source.apply(v, x, False)[0])

    def score(split: Split) -> float:
        return task.wording.value(mean_quality(lambda x: predict(variables, x), dataset, split))

    meta = {
        "model": model,
        "data": data,
        "command": command(),
        f"search_{task.wording.metric}": score(dataset.search),
        f"test_{task.wording.metric}": score(dataset.open_test()) if settings.test else None,
    }
    return save_arrays(out, variables, meta)

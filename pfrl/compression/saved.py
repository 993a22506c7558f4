"""A compressed network as a directory that runs, and trains, without the code it was made with.

The directory holds two serialised programs (StableHLO, by ``jax.export``), one
for each mode, and the arrays they run on. No pickle, no Python.
"""

import hashlib
import itertools
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from pfrl.compression.policy import Policy
from pfrl.files import FileError, load_arrays, save_arrays, write_whole
from pfrl.graph import Graph, Variables
from pfrl.graph.source import as_inputs

FORMAT = "pfrl network"
VERSION = 1
ARRAYS = "variables.npz"
PROGRAMS = {False: "evaluate.jaxexport", True: "train.jaxexport"}
"""File of the program by whether it is the one for training."""
PLATFORMS = ("cpu", "cuda", "tpu")

# The functions outside of a program that it may call: checks of shapes, random bits, linear
# algebra. Whatever else is registered in the process, Python callbacks above all, it may not.
CALLS = re.compile(
    r"(shape_assertion|Sharding|(cu|hip)_threefry2x32_ffi|lapack_\w+|cusolver_\w+|cublas_\w+"
    r"|cusparse_\w+|Qr|Eigh|LuDecomposition|ProductOfElementaryHouseholderReflectors"
    r"|(stablehlo\.)?dynamic_(reduce_window|rng_bit_generator|top_k))"
)


class Runnable(Protocol):
    """What ``compress`` makes, as far as it is saved; see ``Compressed``."""

    @property
    def graph(self) -> Graph: ...
    @property
    def policy(self) -> Policy: ...
    @property
    def kept(self) -> Mapping[str, np.ndarray]: ...
    @property
    def variables(self) -> Variables: ...
    @property
    def trainable(self) -> frozenset[str]: ...
    def apply(self, variables: Variables, x: Any, train: bool) -> tuple[Any, Variables]: ...


@dataclass(frozen=True, eq=False)
class Loaded:
    """A saved network: call it, train it (``apply``), save it again.

    It differentiates once, in reverse (``jax.grad``, ``jax.vjp``).

    Attributes:
      variables: the arrays by name.
      trainable: names of those that gradients go to.
      policy: what was done to the network.
      kept: channels of every group that remain.
      programs: of evaluation (False) and training (True).
    """

    variables: Variables
    trainable: frozenset[str]
    policy: Policy
    kept: Mapping[str, np.ndarray]
    programs: Mapping[bool, jax.export.Exported]

    def __call__(self, *inputs: Any) -> Any:
        """Outputs in evaluation mode."""
        return self.apply(self.variables, inputs[0] if len(inputs) == 1 else inputs, False)[0]

    def apply(self, variables: Variables, x: Any, train: bool) -> tuple[Any, Variables]:
        """As ``Source.apply``."""
        names = sorted(self.variables)
        arrays = [jnp.asarray(variables[name]) for name in names]
        inputs = [jnp.asarray(value) for value in as_inputs(x)]
        outputs, statistics = self.programs[train].call(arrays, inputs)
        return outputs, dict(zip(_statistics(names, self.trainable), statistics, strict=True))

    @property
    def params(self) -> int:
        """Trainable elements."""
        return sum(int(np.size(self.variables[name])) for name in self.trainable)


def save(small: Runnable | Loaded, directory: str | Path) -> Path:
    """Write a network to ``directory``, which appears only when it is whole.

    A network that was saved there before is replaced. The programs take any
    batch size where the network allows it, else the one that it was traced with;
    they run on every platform of ``PLATFORMS`` where their operations allow it.

    Args:
      small: from ``compress`` or ``load``.
      directory: the place.

    Returns:
      ``directory``.

    Raises:
      FileError: if something else is there, the place cannot be written to, or
        the network has no serialised form.
    """
    directory = Path(directory)
    if directory.exists() and not _is_replaceable(directory):
        raise FileError(f"{directory} is there and is no saved network; choose another place")
    arrays = {name: jnp.asarray(value) for name, value in sorted(small.variables.items())}
    if isinstance(small, Loaded):
        trainable = small.trainable
        programs = {n: small.programs[train] for train, n in PROGRAMS.items()}
        blobs = {name: _serialized(program) for name, program in programs.items()}
    else:
        trainable = small.trainable
        exported = {name: _export(small, arrays, train) for train, name in PROGRAMS.items()}
        programs = {name: program for name, (program, _) in exported.items()}
        blobs = {name: blob for name, (_, blob) in exported.items()}
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "jax": jax.__version__,
        "dtypes": {name: array.dtype.name for name, array in arrays.items()},
        "trainable": sorted(trainable),
        "inputs": {name: _described(program) for name, program in programs.items()},
        "policy": small.policy.to_json(),
        "kept": {name: np.asarray(indices).tolist() for name, indices in small.kept.items()},
        "sha256": {name: hashlib.sha256(blob).hexdigest() for name, blob in blobs.items()},
    }
    with _appearing(directory) as place:
        for name, blob in blobs.items():
            write_whole(place / name, lambda stream, blob=blob: stream.write(blob))
        save_arrays(place / ARRAYS, arrays, meta)
    return directory


def _statistics(names: list[str], trainable: frozenset[str]) -> list[str]:
    return [name for name in names if name not in trainable]


def _export(
    small: Runnable, arrays: Mapping[str, jax.Array], train: bool
) -> tuple[jax.export.Exported, bytes]:
    """The program of one mode, as general as the network allows, and its serialised form."""
    inputs = small.graph.inputs
    statistics = _statistics(list(arrays), small.trainable)
    variables = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays.values()]

    # Lists only: the file knows no other containers.
    def program(values: list[Any], inputs: list[Any]) -> tuple[Any, list[Any]]:
        x: Any = inputs[0] if len(inputs) == 1 else tuple(inputs)
        outputs, after = small.apply(dict(zip(arrays, values, strict=True)), x, train)
        return outputs, [after[name] for name in statistics]

    traced = [x.shape[0] for x in inputs if x.shape][:1]
    (any_size,) = jax.export.symbolic_shape("n")

    def specs(batch: Any) -> list[jax.ShapeDtypeStruct]:
        batched = [bool(x.shape) and x.shape[0] == traced[0] for x in inputs]
        return [
            jax.ShapeDtypeStruct((batch, *x.shape[1:]) if has else x.shape, x.dtype)
            for x, has in zip(inputs, batched, strict=True)
        ]

    failure: Exception | None = None
    for batch, platforms in itertools.product((any_size, *traced), (PLATFORMS, PLATFORMS[:1])):
        try:
            if batch is any_size:
                # A shape that only the traced size fits may pass for one of any size.
                jax.eval_shape(program, variables, specs(sum(traced) + 1))
            with _without_places():
                export = jax.export.export(jax.jit(program), platforms=platforms)
                exported = export(variables, specs(batch))
                return exported, _serialized(exported)
        except Exception as error:  # every operation has its own way to refuse
            failure = error
    raise FileError(f"the network has no serialised form: {failure}") from failure


def _serialized(program: jax.export.Exported) -> bytes:
    """A program together with its derivative."""
    return bytes(program.serialize(vjp_order=1))


@contextmanager
def _without_places() -> Iterator[None]:
    """Programs that are made meanwhile do not name the files and lines that they come from."""
    option = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, option)
    jax.config.update(option, 0)
    try:
        yield
    finally:
        jax.config.update(option, before)


def _described(program: jax.export.Exported) -> list[tuple[list[int | None], str]]:
    """Shape and dtype of every input of a program; None is any size."""
    (_, inputs), _ = jax.tree.unflatten(program.in_tree, program.in_avals)
    return [
        ([size if isinstance(size, int) else None for size in x.shape], x.dtype.name)
        for x in inputs
    ]


def _is_replaceable(directory: Path) -> bool:
    """Whether there is nothing in a directory but a network that we saved."""
    if not directory.is_dir():
        return False
    return {entry.name for entry in directory.iterdir()} <= {ARRAYS, *PROGRAMS.values()}


@contextmanager
def _appearing(directory: Path) -> Iterator[Path]:
    """A directory to fill, which takes its name, and the place of an older one, at the end."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
        try:
            new, old = beside / "new", beside / "old"
            new.mkdir()
            yield new
            if directory.exists():
                directory.rename(old)
            try:
                new.rename(directory)
            except OSError:
                if old.exists():
                    old.rename(directory)
                raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise FileError(
            f"cannot write {directory}: {error.strerror}; choose another place"
        ) from error


def load(directory: str | Path) -> Loaded:
    """The network that ``save`` wrote; nothing in the files is executed by reading them.

    Args:
      directory: to which it was saved.

    Raises:
      FileError: if it is missing, damaged, of another origin or of a newer version.
    """
    directory = Path(directory)
    if not (directory / ARRAYS).is_file():
        raise FileError(f"no {ARRAYS} in {directory}; expected a directory that pfrl.save wrote")
    arrays, meta = load_arrays(directory / ARRAYS)
    if meta.get("format") != FORMAT:
        raise FileError(f"{directory / ARRAYS} is no network that pfrl.save wrote")
    if meta.get("version") != VERSION:
        raise FileError(
            f"{directory} is of format version {meta.get('version')}, expected {VERSION};"
            " save it anew with this version of pfrl"
        )
    try:
        # Numpy writes the bytes of a dtype that it does not know (bfloat16), without its name.
        variables = {
            name: jnp.asarray(
                arrays[name].view(dtype) if arrays[name].dtype.kind == "V" else arrays[name]
            )
            for name, dtype in meta["dtypes"].items()
        }
        kept = {name: np.asarray(indices, int) for name, indices in meta["kept"].items()}
        trainable = frozenset(meta["trainable"])
        policy = Policy.from_json(meta["policy"])
        checksums = {name: str(meta["sha256"][name]) for name in PROGRAMS.values()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FileError(
            f"{directory / ARRAYS} is damaged ({error}); save the network again"
        ) from error
    programs = {
        train: _read_program(directory / name, checksums[name], meta.get("jax"))
        for train, name in PROGRAMS.items()
    }
    return Loaded(variables, trainable, policy, kept, programs)


def _read_program(path: Path, checksum: str, made_by: Any) -> jax.export.Exported:
    """A program that is the one that was saved, and calls nothing but what networks need."""
    if not path.is_file():
        raise FileError(f"no file {path}; save the network again")
    blob = path.read_bytes()
    if hashlib.sha256(blob).hexdigest() != checksum:
        raise FileError(f"{path} is damaged or belongs to another network; save the network again")
    try:
        program = jax.export.deserialize(bytearray(blob))
        texts = [program.mlir_module(), program.vjp().mlir_module()]
    except Exception as error:  # flatbuffers and the compiler each raise their own
        raise FileError(
            f"{path} was written by JAX {made_by} and cannot be read by {jax.__version__}"
            f" ({error}); save the network again"
        ) from error
    for text in texts:
        for call in re.findall(r"custom_call\W+([\w.]+)", text):
            if not CALLS.fullmatch(call):
                raise FileError(
                    f"{path} calls '{call}', which is no part of a network; do not use it"
                )
    return program

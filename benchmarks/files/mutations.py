"""Damaged files given to every command that reads them: one sentence each, and exit code 2.

    python -m benchmarks.files.mutations --count 10000 --out mutations.json

Makes an ONNX, a LiteRT, a packed and a policy file of a small network, damages copies of them
(bits flipped, parts cut off, doubled, moved or overwritten with extremes; of JSON also values of
other kinds) and gives each to what reads it. A damaged file that is still a network may be read
and measured; anything else has to end with a sentence. Commands run in worker processes one after
the other; one that takes its worker with it is run again as a user would.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
VALUES: tuple[Any, ...] = (None, True, -1, 0, 1e308, float("nan"), 2**70, "", "8", [], {}, [[]])
SECONDS = 60
"""Of computing that a command may take; it may wait for a core ``PATIENCE`` times as long."""
PATIENCE = 20
GROWTH = 2**29
"""Bytes that a worker's memory may grow by in one command: far more than these files ask for."""
WORDS = 700
"""Letters of a sentence at most."""


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes with one to four damages, or with one bit that is flipped."""
    data, once = bytearray(content), rng.random() < 0.4
    for _ in range(1 if once else rng.integers(1, 5)):
        kind, size = 0 if once else rng.integers(7), len(data)
        if not size:
            break
        start = int(rng.integers(size))
        stop = min(size, start + int(rng.integers(1, 65)))
        if kind == 0:
            data[start] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[start:stop] = rng.integers(0, 256, stop - start, np.uint8).tobytes()
        elif kind == 2:
            del data[start:stop]
        elif kind == 3:
            data[start:start] = data[start:stop]
        elif kind == 4:
            word = int(rng.choice(EXTREMES)).to_bytes(4, "little")
            data[start : start + 4] = word
        elif kind == 5:
            del data[start:]
        else:
            other = int(rng.integers(size))
            data[start:stop] = data[other : other + stop - start]
    return bytes(data)


def mutated_json(content: bytes, rng: np.random.Generator) -> bytes:
    """JSON with a value of another kind, or without one, at one place; or ``mutated``."""
    if rng.random() < 0.3:
        return mutated(content, rng)
    value = json.loads(content)
    inner, keys = value, list(value)
    while True:
        key = keys[int(rng.integers(len(keys)))]
        if isinstance(inner[key], dict) and inner[key] and rng.random() < 0.8:
            inner = inner[key]
            keys = list(inner)
            continue
        break
    if rng.random() < 0.2:
        del inner[key]
    elif rng.random() < 0.2:
        inner[key + "x"] = inner.pop(key)
    else:
        inner[key] = VALUES[int(rng.integers(len(VALUES)))]
    return json.dumps(value).encode()


READERS = {
    "onnx": ("measure", "inspect"),
    "tflite": ("measure",),
    "packed": ("unpack",),
    "json": ("policy",),
}
"""What reads a file of a kind: commands, and the functions by which commands and users read it."""


class Outcome(NamedTuple):
    """What became of a damaged file.

    Attributes:
      how: 'read', 'refused' in one sentence, or what must not be: 'crashed', 'slow', 'large',
        'traceback' or 'words' (no sentence, or several).
      text: what was said.
    """

    how: str
    text: str = ""

    @property
    def right(self) -> bool:
        return self.how in ("read", "refused")


def whole_files() -> dict[str, list[bytes]]:
    """Files of a small network by kind, in float32 and with integers, and the folder's graph."""
    import jax

    import pfrl
    from pfrl.deploy.litert.export import to_litert
    from pfrl.deploy.onnx.export import to_onnx
    from pfrl.deploy.packed.pack import pack
    from pfrl.graph import trace

    graph = trace(_network(), jax.ShapeDtypeStruct((4, 8, 8, 1), np.float32))
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
    seen = pfrl.gather_statistics(graph, pfrl.Recipe(), [(x, np.zeros(4, int))], quantized=True)
    found: dict[str, list[bytes]] = {kind: [] for kind in READERS}
    for bits in (32, 8):
        policy = pfrl.Policy.uniform(graph, 1.0, bits, bits)
        small = pfrl.compress(graph.source, policy, graph=graph, statistics=seen)
        found["onnx"].append(to_onnx(small, (8, 8, 1)).SerializeToString())
        found["tflite"].append(to_litert(small, (8, 8, 1), {"classes": "a, b, c, d"}))
        with tempfile.TemporaryDirectory() as folder:
            pack(small, Path(folder) / "m.packed")
            found["packed"].append((Path(folder) / "m.packed").read_bytes())
        found["json"].append(json.dumps(policy.to_json()).encode())
    return found


def _network() -> Any:
    """Two convolutions and a dense layer, [N, 8, 8, 1] to 4 logits."""
    import jax
    from flax import nnx

    class Small(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.conv1 = nnx.Conv(1, 4, (3, 3), rngs=rngs)
            self.conv2 = nnx.Conv(4, 4, (3, 3), strides=2, rngs=rngs)
            self.linear = nnx.Linear(4, 4, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            x = jax.nn.relu(self.conv2(jax.nn.relu(self.conv1(x))))
            return self.linear(x.mean((1, 2)))

    return Small(nnx.Rngs(0))


def arguments_of(reader: str, path: Path) -> list[str]:
    """Of the command line."""
    if reader == "measure":
        return ["measure", str(path), "--seconds", "0.001", "--precision", "1"]
    return ["inspect", "--model", str(path), "--json"]


def read(reader: str, path: Path) -> Outcome:
    """Give a file to what reads it, in this process."""
    from experiments.cli import OURS, main
    from experiments.run.applying import read_policy
    from pfrl.deploy.packed.pack import unpack

    said = io.StringIO()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            if reader in ("measure", "inspect"):
                code = main(arguments_of(reader, path))
            else:
                {"unpack": unpack, "policy": read_policy}[reader](path)
                code = 0
    except ValueError as error:
        if not type(error).__module__.split(".")[0].startswith(OURS):
            return Outcome("traceback", traceback.format_exc()[-600:])
        code, said = 2, io.StringIO(f"pfrl: {error}")
    except BaseException:
        return Outcome("traceback", traceback.format_exc()[-600:])
    if (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 > GROWTH:
        return Outcome("large")
    return _outcome(code, said.getvalue())


def _outcome(code: int, said: str) -> Outcome:
    if code == 0:
        return Outcome("read")
    # A command in work tells what it does: such lines do not count.
    lines = [line for line in said.splitlines() if line.startswith("pfrl: ")]
    if code != 2 or len(lines) != 1 or len(lines[0]) > WORDS:
        return Outcome("words", said[-600:])
    return Outcome("refused", lines[0])


def as_users(reader: str, path: Path) -> Outcome:
    """Run the command as a user would."""
    command = [sys.executable, "-m", "experiments", *arguments_of(reader, path)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PATIENCE * SECONDS,
            preexec_fn=_limit_computing,
        )
    except subprocess.TimeoutExpired:
        return Outcome("slow")
    if done.returncode == -signal.SIGPROF:
        return Outcome("slow")
    if done.returncode < 0:
        return Outcome("crashed", f"signal {-done.returncode}")
    return _outcome(done.returncode, done.stderr)


def _limit_computing() -> None:
    """From now on; SIGPROF ends this process, and a program that takes its place."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)


def _work(connection: Connection) -> None:
    from pfrl.deploy import memory

    def here(paths: Any, threads: int = 1, batch: int = 1) -> list[int]:
        """In this process, which the harness keeps an eye on: a new one takes half a second."""
        try:
            return [memory.measured(str(path), threads, batch) for path in paths]
        except Exception as error:
            raise memory.unreadable(error) from error

    from experiments.run.shipped import measuring

    measuring.peak_memories = here
    while True:
        reader, path = connection.recv()
        _limit_computing()
        connection.send(read(reader, path))


class Worker:
    """A process that reads one file after the other; another takes its place when it dies."""

    def __init__(self) -> None:
        self._process: Any = None

    def read(self, reader: str, path: Path) -> Outcome:
        """What became of a file; 'crashed' or 'slow' if the process did not survive it."""
        if self._process is None:
            self._connection, other = multiprocessing.Pipe()
            context = multiprocessing.get_context("spawn")
            self._process = context.Process(target=_work, args=(other,), daemon=True)
            self._process.start()
            other.close()
        self._connection.send((reader, path))
        try:
            if self._connection.poll(PATIENCE * SECONDS):
                found = self._connection.recv()
                if found.how != "large":  # what it holds would hide the next one's
                    return found
            else:
                found = Outcome("slow")
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            slow = code == -signal.SIGPROF
            found = Outcome("slow") if slow else Outcome("crashed", f"signal {-code}")
        self.end()
        return found

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def run(
    numbers: Iterable[int], seed: int, folder: Path, files: Mapping[str, list[bytes]]
) -> list[dict]:
    """Damaged files one after the other, the kinds in turns.

    Args:
      numbers: of the files: each is damaged in a way of its own.
      folder: keeps those with which something went wrong.
      files: of ``whole_files``.

    Returns:
      for every file and reader: kind, reader, seed, outcome, text, and whether it is right.
    """
    worker, rows = Worker(), []
    try:
        for number in numbers:
            kind = list(READERS)[number % len(READERS)]
            rng = np.random.default_rng([seed, number])
            content = files[kind][int(rng.integers(len(files[kind])))]
            damaged = (mutated_json if kind == "json" else mutated)(content, rng)
            path = folder / f"{number}.{kind}"
            path.write_bytes(damaged)
            right = True
            for reader in READERS[kind]:
                found = worker.read(reader, path)
                if found.how in ("crashed", "slow", "large") and reader in ("measure", "inspect"):
                    found = as_users(reader, path)
                row = {"number": number, "kind": kind, "reader": reader, **found._asdict()}
                rows.append(row | {"right": found.right})
                if not found.right:
                    print(json.dumps(row), file=sys.stderr, flush=True)
                right &= found.right
            if right:
                path.unlink()
    finally:
        worker.end()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Damaged files, given to what reads them.")
    parser.add_argument("--count", type=int, default=10_000, help="damaged files")
    parser.add_argument("--first", type=int, default=0, help="files before this one are left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("mutations.json"))
    options = parser.parse_args()
    folder = options.out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    rows = run(range(options.first, options.count), options.seed, folder, whole_files())
    table = Counter((row["kind"], row["reader"], row["how"]) for row in rows)
    wrong = [row for row in rows if not row["right"]]
    found = {
        "files": options.count - options.first,
        "seed": options.seed,
        "outcomes": {" ".join(key): number for key, number in sorted(table.items())},
        "wrong": wrong,
    }
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    for key, number in found["outcomes"].items():
        print(f"{number:7d} {key}")
    print(f"{len(wrong)} wrong; {options.out}")


if __name__ == "__main__":
    main()

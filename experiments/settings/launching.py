"""What a user can set for every command that launches many runs."""

from dataclasses import dataclass

from pfrl.bounds import Whole


@dataclass(frozen=True)
class LaunchBlock:
    """Where the runs of a study are carried out, and how many at once."""

    workers: Whole = 0
    """Runs at once, each on a core of its own. Default: one a core, of the whole cluster with
    --ray."""
    ray: str | None = None
    """Address of a Ray cluster that carries out the runs (pip install 'pocketflow-rl[ray]'), such
    as 10.0.0.1:6379, or auto for the one that this machine belongs to. Default: processes of this
    machine."""
    dry_run: bool = False
    """Print which runs are left and how long they will take, and do none of them."""

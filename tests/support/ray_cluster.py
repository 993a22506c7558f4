"""A Ray cluster of two nodes of one core each on this machine, until standard input ends."""

import sys

from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    print("address", cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()

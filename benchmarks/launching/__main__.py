"""``python -m benchmarks.launching``; see ``benchmarks.launching.rate``."""

import tyro

from benchmarks.launching import rate

if __name__ == "__main__":
    rate.main(tyro.cli(rate.LaunchingSettings, description=rate.__doc__))

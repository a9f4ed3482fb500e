"""A weighted sum of the weights of generators: means of snapshots, and what one has learnt added to another.

    python benchmarks/mix.py OUTPUT.safetensors 0.5 ONE.safetensors 0.5 OTHER.safetensors
    python benchmarks/mix.py OUTPUT.safetensors 1 ONE.safetensors 0.5 LATER.safetensors -0.5 EARLIER.safetensors

All must be of one kind, and the shares come to 1.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

from crispen.errors import TrainingError
from crispen.networks.weights import load_generator, save_generator
from crispen.training.starting import check_variances


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("terms", nargs="+", metavar="SHARE WEIGHTS")
    arguments = parser.parse_args()
    shares, paths = [float(share) for share in arguments.terms[::2]], arguments.terms[1::2]
    if len(shares) != len(paths) or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        parser.error("give a share before each file of weights; the shares must come to 1")
    generators = [load_generator(Path(path)) for path in paths]
    if any(other.architecture != generators[0].architecture for other in generators):
        parser.error("the weights must be of one kind of generator")
    states = [generator.state_dict() for generator in generators]
    mixed = {
        name: sum(
            (share * state[name].double() for share, state in zip(shares, states, strict=True)),
            torch.zeros(()),
        )
        for name in states[0]
    }
    try:
        check_variances(mixed, states[0])
    except TrainingError as error:
        parser.error(str(error))
    generators[0].load_state_dict(mixed)
    save_generator(generators[0], arguments.output)


if __name__ == "__main__":
    main()

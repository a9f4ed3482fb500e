"""More residual blocks for trained weights: the new ones, behind the old, pass on what they get until they are trained.

    python benchmarks/deepen.py OUTPUT.safetensors WEIGHTS.safetensors --blocks 20

The network answers as before (Net2DeeperNet: Chen, Goodfellow and Shlens, "Net2Net", ICLR 2016), so that training goes
on from there: ``crispen train … --init OUTPUT.safetensors --set generator.num_blocks=20``. Where the weights are tied
by symmetry (``generator.equivariant``), those of the new blocks are, too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from crispen.networks.generators import AnyGenerator, build_generator
from crispen.networks.weights import load_generator, save_generator
from crispen.training.equivariance import SYMMETRIES, Equivariance


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--blocks", type=int, required=True, help="how many there are to be")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    old = load_generator(arguments.weights)
    if old.batch_norm:
        parser.error("the weights must be of a network without batch norm")
    if arguments.blocks < old.num_blocks:
        parser.error(f"the weights have {old.num_blocks} blocks already")
    torch.manual_seed(arguments.seed)
    save_generator(deepened(old, arguments.blocks), arguments.output)


def deepened(old: AnyGenerator, num_blocks: int) -> AnyGenerator:
    """A generator with as many blocks that answers as ``old`` does, which has fewer and no batch norm."""
    new = build_generator(old.architecture | {"num_blocks": num_blocks})
    last = f"body.{old.num_blocks}."  # the convolution behind the blocks
    tensors = {name.replace(last, f"body.{num_blocks}."): tensor for name, tensor in old.state_dict().items()}
    new.load_state_dict(new.state_dict() | tensors)
    with torch.no_grad():
        for number in range(old.num_blocks, num_blocks):
            for tensor in new.body[number].get_submodule("residual.2").parameters():
                tensor.zero_()
    if old.num_features % len(SYMMETRIES) == 0 and not Equivariance(old).untied(old):
        Equivariance(new).begin(new)
    return new


if __name__ == "__main__":
    main()

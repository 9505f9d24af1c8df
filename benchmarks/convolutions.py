"""Milliseconds of a training step on the CPU, and what computing some convolutions otherwise saves.

    python -m benchmarks.convolutions --size 32 --nets resnet18 resnet34
    python -m benchmarks.convolutions --size 64 --nets efficientnet_b0 mobilenetv3_small_100

Networks of timm with random weights; forward and backward on random images. The median of some
steps each in float32, in bfloat16, and both with `fast_convolutions`, in turns.
"""

import argparse
import statistics
import time
from contextlib import nullcontext

import timm
import torch

from stagewise_kd.networks.cpu_convolutions import fast_convolutions


def main() -> None:
    """Measure and print a row a network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nets", nargs="+", default=["resnet18"], help="names of timm")
    parser.add_argument("--size", type=int, default=32, help="pixels of a side")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    print("| network | float32 | … fast | bfloat16 | … fast |\n| --- | --- | --- | --- | --- |")
    for name in args.nets:
        took = [f"{1000 * seconds:.0f}" for seconds in measured(name, args)]
        print(f"| {name} | {' | '.join(took)} |", flush=True)


def measured(name: str, args: argparse.Namespace) -> list[float]:
    """Seconds of a step: float32, fast; bfloat16, fast."""
    net = timm.create_model(name, num_classes=10).to(memory_format=torch.channels_last).train()
    shape = (args.batch, 3, args.size, args.size)
    images = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    ways = [(mixed, fast) for mixed in (False, True) for fast in (False, True)]
    took: list[list[float]] = [[] for _ in ways]
    for turn in range(args.repeat + 1):  # the first is to warm up
        for seconds, (mixed, fast) in zip(took, ways, strict=True):
            with fast_convolutions(net) if fast else nullcontext():
                start = time.perf_counter()
                with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                    loss = net(images).float().square().mean()
                loss.backward()
                net.zero_grad()
            seconds += [time.perf_counter() - start] * bool(turn)
    return [statistics.median(seconds) for seconds in took]


if __name__ == "__main__":
    main()

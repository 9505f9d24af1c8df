"""What a network costs: parameters, multiply-adds, latency."""

import statistics
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from stagewise_kd.networks.blocks import BlockNet

REPETITIONS = 20


def cost(net: BlockNet, shape: tuple[int, ...]) -> dict[str, float]:
    """Parameters, multiply-adds and latency of one image.

    Args:
        net: the network; put in eval mode.
        shape: channels, height and width of the image.

    Returns:
        "params" of the whole network, "macs" of its convolutions and linear layers,
        "latency_ms": the median over 20 single images on the network's device.
    """
    net.eval()
    image = torch.zeros(1, *shape, device=net.mean.device)
    with torch.inference_mode():
        net(image)  # the first time blocks are tried out, too
        with FlopCounterMode(display=False) as counter:
            net(image)
    return {
        "params": sum(parameter.numel() for parameter in net.model.parameters()),
        "macs": counter.get_total_flops() // 2,
        "latency_ms": _latency_ms(net, image),
    }


@torch.inference_mode()
def _latency_ms(net: BlockNet, image: torch.Tensor) -> float:
    seconds = []
    for _ in range(REPETITIONS + 3):
        start = time.perf_counter()
        net(image).sum().item()  # .item() waits for the device
        seconds.append(time.perf_counter() - start)
    return round(statistics.median(seconds[3:]) * 1000, 3)

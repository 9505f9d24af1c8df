import os
from pathlib import Path

import pytest
import timm
import torch
from packaging.version import Version
from torch import Tensor, nn

from cls_kd.task import Classification
from stagewise_kd.data.samples import Part
from stagewise_kd.networks.blocks import Block, BlockNet

os.environ["HYDRA_FULL_ERROR"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start
torch.set_num_threads(1)

SHARED = Path(__file__).resolve().parents[2] / "shared"
TIMM_OPENS_FOLDERS = Version(timm.__version__) >= Version("1.0.29")  # of safetensors


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and trained teachers, beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("no folder of real data beside the checkout")
    return SHARED


def conv(inputs: int, outputs: int, stride: int = 2) -> nn.Sequential:
    layers = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


def tiny_net(width: int = 4, classes: int = 3, seed: int = 0, stride: int = 2) -> BlockNet:
    """Ten lines of network: a, b, head."""
    torch.manual_seed(seed)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, classes))
    model = nn.ModuleDict({"a": conv(3, width, stride), "b": conv(width, 2 * width), "head": head})
    reads = {"a": "image", "b": "a", "head": "b"}
    roles = {"a": "encoder", "b": "encoder", "head": "head"}
    blocks = [Block(name, model[name], (read,), roles[name]) for name, read in reads.items()]
    return BlockNet(model, blocks, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Pictures(torch.utils.data.Dataset):
    """Random images whose class is their brightest channel; indexed by view or number."""

    def __init__(self, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(count) % 3
        self.images = torch.randint(0, 200, (count, 3, 8, 8), generator=generator).to(torch.uint8)
        for image, label in zip(self.images, self.labels, strict=True):
            image[label] += 50
        self.part = Part([str(n) for n in range(count)], self.images, self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key) -> tuple[Tensor, Tensor]:
        index = key.sample if isinstance(key, tuple) else key
        return self.images[index], self.labels[index]


@pytest.fixture
def task() -> Classification:
    return Classification(3)

"""What choosing the best epoch on few validation images costs against keeping the last one.

python -m benchmarks.validation_images --cifar10 DIR --camvid DIR

A network is trained once and all its epochs predict on a split that nothing else is done with. Half
of that split stands for the test split; validation images are drawn from the other half, many
times. Prints the mean test score of the epoch that they choose less that of the last epoch, in
points.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cls_kd.sources import cifar10
from seg_kd.sources import camvid
from stagewise_kd.data.samples import Part, Source
from stagewise_kd.networks.resnet import resnet_model

COUNTS = (4, 8, 16, 32, 64, 128)
DRAWS = 300
EPOCHS = {"from scratch": 20, "trained on": 10}  # each with its own one-cycle schedule
VOID = 255


def main() -> None:
    """Print a table of both tasks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cifar10", required=True)
    parser.add_argument("--camvid", required=True)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    objects, streets = cifar10(args.cifar10, (32, 32)), camvid(args.camvid, (64, 96))
    for seed in range(args.seeds):
        for images in (100, 500):
            net = resnet_model("resnet10", 10, "linear")
            show(f"CIFAR-10, {images} images", net, objects, images, 32, seed)
        for frames in (20, 80):
            net = smp.Unet("resnet18", encoder_weights=None, classes=len(streets.classes))
            show(f"CamVid, {frames} frames", net, streets, frames, 8, seed)


def show(name: str, net: nn.Module, source: Source, count: int, batch: int, seed: int) -> None:
    """Print a row for each training of a network."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    train = tensors(source.train, rng.permutation(len(source.train.names))[:count])
    test = tensors(source.test, rng.permutation(len(source.test.names))[:2000])
    for kind, epochs in EPOCHS.items():
        made = [confusions(net, *test) for _ in trained(net, *train, epochs, batch)]
        costs = [f"{100 * cost:+.2f}" for cost in against_last(np.stack(made), rng)]
        last = float(score(made[-1].sum(0)))
        print("|", " | ".join([f"{name}, {kind}, seed {seed}", f"{100 * last:.1f}", *costs]), "|")


def tensors(part: Part, numbers: np.ndarray) -> tuple[Tensor, Tensor]:
    """Normalized images and labels of some samples."""
    images = torch.stack([part.images[n] for n in numbers])
    labels = torch.stack([torch.as_tensor(part.labels[n]).long() for n in numbers])
    return (images / 255 - 0.45) / 0.25, labels


def trained(
    net: nn.Module, images: Tensor, labels: Tensor, epochs: int, batch: int
) -> Iterator[None]:
    """Train on flipped images; stops after each epoch."""
    steps = len(images) // batch
    optimizer = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=epochs * steps)
    for _ in range(epochs):
        net.train()
        for chosen in torch.randperm(len(images))[: steps * batch].view(steps, batch):
            x, y = images[chosen], labels[chosen]
            if torch.rand(()) < 0.5:
                x, y = x.flip(-1), y.flip(-1) if y.ndim > 1 else y
            optimizer.zero_grad()
            cross_entropy(net(x), y, ignore_index=VOID).backward()
            optimizer.step()
            schedule.step()
        yield


@torch.inference_mode()
def confusions(net: nn.Module, images: Tensor, labels: Tensor) -> np.ndarray:
    """Of each image, true classes against predicted ones: (N, K, K)."""
    net.eval()
    found = []
    for x, y in zip(images.split(50), labels.split(50), strict=True):
        logits = net(x)
        count = logits.shape[1]
        for guess, truth in zip(logits.argmax(1), y, strict=True):
            pairs = (truth * count + guess)[truth != VOID].flatten()
            found.append(torch.bincount(pairs, minlength=count**2).view(count, count))
    return torch.stack(found).numpy()


def score(confusion: np.ndarray) -> np.ndarray:
    """Accuracy on CIFAR-10, else mean IoU of the classes present: (…, K, K) to (…)."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    truth = confusion.sum(-1)
    if confusion.shape[-1] == 10:  # CIFAR-10
        return hits.sum(-1) / truth.sum(-1)
    union = truth + confusion.sum(-2) - hits
    return np.nanmean(np.where(truth > 0, hits / np.maximum(union, 1), np.nan), -1)


def against_last(found: np.ndarray, rng: np.random.Generator) -> Iterator[float]:
    """Mean test score of the chosen epoch less that of the last, for each count."""
    half = found.shape[1] // 2
    for count in COUNTS:
        gains = []
        for _ in range(DRAWS):
            order = rng.permutation(found.shape[1])
            val, test = (score(found[:, part].sum(1)) for part in (order[:count], order[half:]))
            gains.append(test[val.argmax()] - test[-1])
        yield float(np.mean(gains))


if __name__ == "__main__":
    main()

"""Photographs and a trained network are enough: python without_labels.py PHOTOS TEACHER.pt

The student learns the teacher's features and keeps the teacher's head. Without labels its figure is
the agreement: the share of held-out photographs for which both choose the same class.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.io import ImageReadMode, decode_image
from torchvision.models import resnet18, resnet34
from torchvision.transforms import v2

import cls_kd


class Photos(Dataset):
    def __init__(self, folder: str) -> None:
        self.files = sorted(Path(folder).rglob("*.jpg"))
        self.view = v2.RandomResizedCrop(224, scale=(0.5, 1))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        return self.view(decode_image(self.files[index], ImageReadMode.RGB))


weights = torch.load(sys.argv[2], weights_only=True)
teacher, student = (net(num_classes=len(weights["fc.bias"])) for net in (resnet34, resnet18))
teacher.load_state_dict(weights)
run = cls_kd.distill(student, teacher, Photos(sys.argv[1]), epochs=2)
torch.save(run.student.state_dict(), "resnet18.pt")
print(f"agreement {run.result['student_metrics']['agreement']:.3f}")

"""A U-Net with a smaller encoder under its teacher's decoder: python unet.py STREETS TEACHER

STREETS holds {train,test}/images/*.png and {train,test}/masks/*.png of the same names: class
indices, 255 where there is no label. TEACHER is a folder of smp's `save_pretrained`.
"""

import sys
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.io import ImageReadMode, decode_image

import seg_kd

streets, folder = map(Path, sys.argv[1:])


class Streets(Dataset):
    def __init__(self, split: str) -> None:
        self.images = sorted((streets / split / "images").glob("*.png"))
        self.masks = sorted((streets / split / "masks").glob("*.png"))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = decode_image(self.images[index], ImageReadMode.RGB)
        return image, decode_image(self.masks[index])[0]


teacher = smp.from_pretrained(folder)
torch.manual_seed(0)
student = smp.Unet("resnet18", encoder_weights=None, classes=teacher.config["classes"])
train, test = Streets("train"), Streets("test")
run = seg_kd.distill(student, teacher, train, test=test, head="teacher", batch_size=8, epochs=2)
run.student.save_pretrained("runs/small_unet")  # opens with smp.from_pretrained
print(run.result["student_metrics"]["miou"], run.result["student_metrics"]["agreement"])

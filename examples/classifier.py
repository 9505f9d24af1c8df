"""A ResNet18 out of your trained ResNet34: python classifier.py PHOTOS TEACHER.pt

PHOTOS holds train/<class>/*.jpg and test/<class>/*.jpg, TEACHER.pt a state dict of torchvision's.
"""

import sys

import torch
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18, resnet34
from torchvision.transforms import v2

import cls_kd

photos, checkpoint = sys.argv[1:]
crop = v2.Compose([v2.Resize(224), v2.CenterCrop(224), v2.PILToTensor()])
views = v2.Compose([v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), v2.PILToTensor()])
train = ImageFolder(f"{photos}/train", views)
test = ImageFolder(f"{photos}/test", crop)

teacher = resnet34(num_classes=len(train.classes))
teacher.load_state_dict(torch.load(checkpoint, weights_only=True))
torch.manual_seed(0)  # the student that the run starts from, and goes on from when run again
student = resnet18(num_classes=len(train.classes))

run = cls_kd.distill(student, teacher, train, test=test, epochs=2, out="runs/resnet18")
for name in ("teacher", "student"):
    print(f"{name}: accuracy {run.result[f'{name}_metrics']['accuracy']:.3f}")

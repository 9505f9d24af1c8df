"""How a student opens without this project: by which library, and what that has to be told."""

from typing import Any

from stagewise_kd.networks.encoders import is_new
from stagewise_kd.networks.libraries import torchvision_options
from stagewise_kd.networks.names import library
from stagewise_kd.networks.resnet import DEPTHS

Opening = dict[str, Any]
PROJECT = {"by": "project", "library": "stagewise-kd"}


def opening(described: dict[str, Any]) -> Opening:
    """What the snippet of a student's card names.

    Args:
        described: the content of network.json.

    Returns:
        "by", the kind of snippet; "library", which loads the folder; and the snippet's own values.
    """
    network = described["network"]
    builders = {"resnet": _resnet, "library_net": _library, "segmenter": _smp}
    if not described.get("build"):
        name = network["class"].rpartition(".")[2]
        return {"by": "own", "library": "pytorch", "name": name}
    build = builders.get(described["build"].rpartition(".")[2])
    return build(network) if build else PROJECT


def _resnet(network: dict[str, Any]) -> Opening:
    block, layers = DEPTHS[network["name"]]
    kept = {key: network[key] for key in ("classes", "head")}
    told = {"by": "resnet", "library": "torchvision", "block": block.__name__, "layers": layers}
    return told | kept


def _library(network: dict[str, Any]) -> Opening:
    name, classes = network["name"].partition("/")[2], network["classes"]
    if library(network["name"]) == "timm":
        return {"by": "timm", "library": "timm"}
    options = torchvision_options(name, network["size"], network["arguments"])
    arguments = {"num_classes": classes, **options}
    return {"by": "torchvision", "library": "torchvision", "name": name, "arguments": arguments}


def _smp(network: dict[str, Any]) -> Opening:
    if network["width"] != 1:
        return PROJECT
    encoder, counts = network["encoder"], network["convolutions"] or ()
    single = [number for number, count in enumerate(counts) if count == 1]
    told = {"library": "segmentation-models-pytorch", "encoder": encoder, "single": single}
    told["layers"] = DEPTHS[encoder][1] if is_new(encoder) else None
    arguments = {"arch": network["model"], "encoder_name": encoder, "encoder_weights": None}
    arguments |= {"in_channels": network["channels"], "classes": network["classes"]}
    told["arguments"] = arguments | network["arguments"]
    return told | {"by": "smp class" if single else "smp"}

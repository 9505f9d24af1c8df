"""From the config of a segmentation run to its experiment."""

from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from seg_kd.data import make_data
from seg_kd.decoders import decoder_shape
from seg_kd.decoders import describe as describe_decoder
from seg_kd.methods import encoder_blocks
from seg_kd.networks import describe, smp_config
from seg_kd.sources import Source
from seg_kd.task import Segmentation
from seg_kd.teacher import check_decoder, load_teacher
from seg_kd.unet import WIDTHS, unet
from stagewise_kd.data.loaders import Data
from stagewise_kd.methods.checks import check_plan
from stagewise_kd.methods.plan import Plan
from stagewise_kd.networks.blocks import BlockNet, copy_block
from stagewise_kd.runs import run as shared
from stagewise_kd.runs.config import stage_epochs
from stagewise_kd.runs.experiment import Experiment
from stagewise_kd.system.console import console
from stagewise_kd.system.errors import UserError, raise_faults
from stagewise_kd.system.names import Config, method_name
from stagewise_kd.training.setup import Setup


def run(cfg: DictConfig) -> None:
    """Run one experiment, or go on with it, or say that it is finished."""
    shared.run("seg_kd", experiment, cfg)


def load_data(config: Config) -> tuple[Data, Source]:
    """The splits of a config, and the data set they are of."""
    settings = config["data"]
    size = settings["size"]
    source = instantiate(settings["source"])(size=(size, size) if isinstance(size, int) else size)
    chosen = ("fraction", "label_fraction", "seed", "val", "splits", "unlabelled")
    data = make_data(
        source,
        instantiate(config["augment"]),
        view_seed=config["seed"],
        protocol=config["eval"]["protocol"],
        **{key: settings[key] for key in chosen},
    )
    return data, source


def make_task(config: Config, classes: list[str]) -> Segmentation:
    """Losses and metrics of a config."""
    losses = config["loss"] if isinstance(config["loss"], list) else [config["loss"]]
    return Segmentation(classes, losses, config["class_weights"])


def experiment(config: Config, text: str, out: Path) -> Experiment:
    """The experiment of a resolved config; trains the teacher first where there is none.

    Args:
        config: the resolved config.
        text: the same as YAML.
        out: the run folder.

    Raises:
        UserError: anything in the config or the data is wrong.
    """
    check_decoder(config, method_name(config))
    torch.manual_seed(config["seed"])
    data, source = load_data(config)
    task = make_task(config, source.classes)
    if shared.needs_teacher(config):
        _check_before_training(config, data, task)
        with torch.random.fork_rng(devices=[]):
            config = shared.trained_teacher(experiment, config, teacher_config(config))
    teacher, like = None, _network(config, len(source.classes), data.shape[0])
    if config["teacher"] and config["teacher"]["checkpoint"]:
        teacher, like = load_teacher(config, like, source.classes)
    student = make_student(config, like, teacher)
    plan = _plan(config, task, student, teacher)
    network = describe(student, config["student"]["name"], config["student"]["width"])
    described = {
        "task": task.name,
        "network": network,
        "classes": source.classes,
        "palette": source.palette,
        "size": config["data"]["size"],
    }
    facts = shared.facts(config, task.name)
    setup = Setup(student, teacher, task, data, shared.fitting(config, facts, out))
    files = {"config.json": smp_config(student, network)}
    return Experiment(setup, plan, facts, text, described, files)


def teacher_network(config: Config, source: Source, channels: int) -> BlockNet:
    """The trained teacher of a config that names its checkpoint."""
    like = _network(config, len(source.classes), channels)
    return load_teacher(config, like, source.classes)[0]


def _check_before_training(config: Config, data: Data, task: Segmentation) -> None:
    """Check the plan with an untrained teacher, before hours are spent on training it."""
    like = _network(config, len(task.classes), data.shape[0])
    teacher = unet(**like)
    student = make_student(config, like, teacher, say=False)
    check_plan(_plan(config, task, student, teacher), student, teacher, data.shape)


def _plan(config: Config, task: Segmentation, student: BlockNet, teacher: BlockNet | None) -> Plan:
    epochs = stage_epochs(config, len(encoder_blocks(student)) + 1)  # the decoder is one stage
    plan: Plan = instantiate(config["method"])(task, student, teacher, epochs=epochs)
    return plan


def teacher_config(config: Config) -> Config:
    """The config of the run that trains the teacher: the same for every student."""
    name, pretrained = (config["teacher"][key] for key in ("name", "pretrained"))
    whole = {"fraction": 1.0, "label_fraction": 1.0, "unlabelled": None}
    return shared.teacher_config(
        config,
        {
            "student": {"name": name, "width": 1.0, "pretrained": pretrained},
            "decoder": {"name": "default", "train": True},
            "data": config["data"] | whole,
        },
    )


def make_student(
    config: Config, like: Config, teacher: BlockNet | None, say: bool = True
) -> BlockNet:
    """The student of a config, with the teacher's decoder copied into it where that is asked for.

    Args:
        config: the resolved config.
        like: description of the teacher's network.
        teacher: the teacher.
        say: tell what a matched decoder is made of.

    Raises:
        UserError: the teacher's decoder does not fit the student.
    """
    student, decoder = config["student"], config["decoder"]
    name, width = student["name"], student["width"]
    if not isinstance(width, int | float) or not width > 0:
        raise UserError(f"student.width={width}: give a factor above 0, such as 0.5")
    shape = decoder_shape(decoder["name"], like, name, width)
    if say and decoder["name"] == "matched":
        console.print(f"matched decoder: {describe_decoder(shape)}", soft_wrap=True)
    own = {key: config["data"][key] for key in ("mean", "std")}
    start = {"pretrained": student.get("pretrained", False)}
    net = unet(**like | own | shape | start | {"encoder": name, "width": width})
    if decoder["name"] == "teacher" and teacher is not None:
        _copy_decoder(teacher, net)
    return net


def _copy_decoder(teacher: BlockNet, student: BlockNet) -> None:
    for name in (n for n in student.names if n.startswith(("decoder", "head"))):
        try:
            copy_block(teacher, student, name)
        except RuntimeError as error:
            raise UserError(
                f"decoder=teacher: the teacher's {name} does not fit a student of these widths "
                f"({str(error).splitlines()[-1].strip()}); use decoder=default or decoder=matched"
            ) from None


def _network(config: Config, classes: int, channels: int) -> Config:
    """The arguments of `unet` for the teacher that a config asks for."""
    named, settings, shape = config["teacher"] or config["student"], config["data"], config["unet"]
    _check_shape(shape)
    depth = shape["depth"]
    return {
        "encoder": named["name"],
        "classes": classes,
        "channels": channels,
        "depth": depth,
        "width": 1.0,
        "decoder_channels": list(shape["decoder_channels"] or WIDTHS[:depth]),
        "convolutions": [2] * depth,
        "attention": shape["attention"],
        "mean": settings["mean"],
        "std": settings["std"],
    }


def _check_shape(shape: Config) -> None:
    """Check the settings of `unet`, all together."""
    depth, channels, attention = (shape[k] for k in ("depth", "decoder_channels", "attention"))
    faults = []
    if depth not in (3, 4, 5):
        faults.append(f"unet.depth={depth}: give 3, 4 or 5")
    elif channels is not None and not (
        isinstance(channels, list)
        and len(channels) == depth
        and all(isinstance(count, int) and count > 0 for count in channels)
    ):
        faults.append(
            f"unet.decoder_channels={channels}: give {depth} whole numbers above 0, deepest first, "
            f"such as {list(WIDTHS[:depth])}, as unet.depth={depth} has so many decoder blocks"
        )
    if attention not in (None, "scse"):
        faults.append(f"unet.attention={attention}: give null or scse")
    raise_faults("bad settings", faults)

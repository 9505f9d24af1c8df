"""What segmentation brings to the skeleton of a run: see `stagewise_kd.runs.front_end`."""

from typing import Any

from hydra.utils import instantiate

from seg_kd import teacher as teacher_module
from seg_kd.architecture import asked_arguments, asked_network, encoder_of
from seg_kd.decoders import decoder_shape
from seg_kd.decoders import describe as describe_decoder
from seg_kd.pairs import load_unlabelled as load_images
from seg_kd.task import Segmentation
from seg_kd.transforms import OfSamples, none
from stagewise_kd.data.samples import Part, Source, Transform
from stagewise_kd.networks.blocks import BlockNet, copy_block
from stagewise_kd.networks.encoders import checked_width
from stagewise_kd.networks.segmenters import argument_names, is_width, segmenter
from stagewise_kd.runs.method import method_of
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.names import SHRUNK, Config

PACKAGE = "seg_kd"
TASK = Segmentation.name


def check(config: Config) -> None:
    """Check that method, student and decoder go together.

    Raises:
        UserError: they do not.
    """
    teacher_module.check_decoder(config["decoder"], method_of(config))
    student, decoder = config["student"]["name"], config["decoder"]["name"]
    if (student == SHRUNK and decoder not in (SHRUNK, "teacher")) or (
        student != SHRUNK and decoder == SHRUNK
    ):
        raise UserError(
            f"student={student} decoder={decoder}: a shrunk student has decoder={SHRUNK} or "
            "decoder=teacher, others have default, matched or teacher"
        )


def make_views(config: Config, source: Source) -> tuple[Transform, Transform]:
    """The augmentation of the config, and padding alone."""
    height, width = source.shape[1:]
    augment = instantiate(config["augment"])((height, width))
    return OfSamples(augment), OfSamples(none((height, width)))


def load_unlabelled(config: Config, source: Source) -> Part | None:
    """The images of `data.unlabelled`, at the size of the others."""
    root = config["data"]["unlabelled"]
    if root is None:
        return None
    channels, *size = source.shape
    return source.unlabelled(*load_images(root, (size[0], size[1]), channels))


def image_size(config: Config, source: Source) -> int | list[int] | None:
    """What images are scaled to when they are predicted; None: used as they are."""
    size: int | list[int] | None = config["data"]["size"]
    return size


def make_task(config: Config, source: Source) -> Segmentation:
    """Losses and metrics of a config."""
    losses = config["loss"] if isinstance(config["loss"], list) else [config["loss"]]
    return Segmentation(source.classes, losses, config["class_weights"])


def untrained_teacher(config: Config, source: Source) -> BlockNet:
    """A network of the teacher's shape."""
    return segmenter(**_asked(config, source))


def load_teacher(config: Config, source: Source) -> BlockNet:
    """The teacher of `teacher.checkpoint`."""
    return teacher_module.load_teacher(config, _asked(config, source), source.classes)


def make_student(config: Config, source: Source, teacher: BlockNet | None) -> BlockNet:
    """The student, with the teacher's decoder copied into it where that is asked for.

    Raises:
        UserError: there is no such network, or the teacher's decoder does not fit the student.
    """
    like = teacher.origin.arguments if teacher and teacher.origin else _asked(config, source)
    student, decoder = config["student"], config["decoder"]
    name = encoder_of(student["name"])
    width = checked_width(name, student["width"])
    own = {key: config["data"][key] for key in ("mean", "std")}
    own |= decoder_shape(decoder["name"], like, name, width)
    known = argument_names(like["model"])  # without those of the teacher's encoder
    arguments = {key: value for key, value in own["arguments"].items() if key in known}
    if decoder["name"] == "default":
        arguments |= {k: v for k, v in asked_arguments(config).items() if is_width(k)}
    own["arguments"] = arguments | student["arguments"]
    start = {"pretrained": student.get("pretrained", False)}
    net = segmenter(**like | own | start | {"encoder": name, "width": width})
    if decoder["name"] == "teacher" and teacher is not None:
        _copy_decoder(teacher, net)
    return net


def method_options(config: Config) -> dict[str, Any]:
    """A decoder that does not train is kept as the teacher's, but for one that was shrunk."""
    decoder = config["decoder"]
    if decoder["train"] and config["data"].get("labelled", True):
        return {}
    learns = {"distill_decoder": True} if decoder["name"] == SHRUNK else {}
    return learns if decoder["train"] else {"head": "teacher", **learns}


def told(config: Config, student: BlockNet) -> list[str]:
    """Of a student with a matched decoder, what that is made of."""
    if config["decoder"]["name"] != "matched" or student.origin is None:
        return []
    made = describe_decoder(student.origin.arguments)
    return [f"matched decoder: {made}"] if made else []


def teacher_changes(config: Config) -> Config:
    """The teacher as a student of all data."""
    own = {key: config["teacher"][key] for key in ("name", "pretrained", "arguments")}
    whole = {"fraction": 1.0, "images": None, "label_fraction": 1.0, "unlabelled": None}
    return {
        "student": own | {"width": 1.0},
        "decoder": {"name": "default", "train": True},
        "data": config["data"] | whole,
    }


def _copy_decoder(teacher: BlockNet, student: BlockNet) -> None:
    for name in student.of_role("decoder", "head"):
        try:
            copy_block(teacher, student, name)
        except RuntimeError as error:
            raise UserError(
                f"decoder=teacher: the teacher's {name} does not fit a student of these widths "
                f"({str(error).splitlines()[-1].strip()}); use decoder=default or decoder=matched, "
                "without labels with method=hinton, or a student of the teacher's widths"
            ) from None


def _asked(config: Config, source: Source) -> Config:
    return asked_network(config, source.classes, source.shape[0])

"""The plain values of a run's config, and the names that they make."""

import re
from typing import Any

Config = dict[str, Any]
SHRUNK = "shrunk"  # student= and decoder= of this name are the teacher's, made smaller


def run_name(config: Config) -> str:
    """Readable name of a run: data and fraction / student, decoder, method and seed."""
    data, decoder = config["data"], config.get("decoder")
    parts = [student_name(config), decoder and decoder["name"], method_name(config)]
    job = "-".join([file_name(part) for part in parts if part] + [f"s{config['seed']}"])
    return f"{data_name(data['name'], data['fraction'], data.get('images'))}/{job}"


def student_name(config: Config) -> str:
    """Name of the student; of a shrunk one with its target, such as shrunk-macs0.5."""
    name = str(config["student"]["name"])
    target = (config.get("target") or {}) if name == SHRUNK else {}
    asked = [f"{kind}{value}" for kind, value in target.items() if value is not None]
    return "-".join([name, *asked])


def data_name(data: str, fraction: float, images: int | None = None) -> str:
    """Readable name of a part of a data set, such as cifar10-0.25 or cifar10-100images."""
    if images is not None:
        return f"{file_name(data)}-{images}images"
    short = f"{fraction:.2f}"
    return f"{file_name(data)}-{short if float(short) == fraction else f'{fraction:g}'}"


def file_name(name: str) -> str:
    """A name as paths and overrides can hold it, such as timm_resnet18 of timm/resnet18."""
    return re.sub(r"[^\w.+-]+", "_", name)


def method_name(config: Config) -> str:
    """Name of the method: that of the function that makes the plan."""
    return str(config["method"]["_target_"]).rsplit(".", 1)[-1]

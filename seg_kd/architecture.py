"""The networks that a config asks for, as the arguments of `segmenter`."""

from typing import Any

from stagewise_kd.networks.encoders import check_encoder
from stagewise_kd.networks.segmenters import TWICE, depth_of, usual_channels
from stagewise_kd.system.errors import UserError, raise_faults
from stagewise_kd.system.names import Config


def encoder_of(name: str) -> str:
    """Smp's name of an encoder: `smp/NAME` or one of our ResNets.

    Raises:
        UserError: it is of another library, or there is none of that name.
    """
    library, _, rest = name.rpartition("/")
    if library not in ("", "smp") or ":" in name:
        own = f"smp/tu-{rest}, as smp calls timm's" if library == "timm" else "smp/ENCODER"
        raise UserError(f"{name}: segmentation takes encoders of smp; give {own}")
    check_encoder(rest)
    return rest


def called(encoder: str) -> str:
    """The choice of student= or teacher= that an encoder is."""
    ours = encoder.startswith("resnet") and encoder not in ("resnet101", "resnet152")
    return encoder if ours else f"smp/{encoder}"


def asked_arguments(config: Config) -> dict[str, Any]:
    """The arguments of smp's class that `model` has, those left at null smp's own."""
    model = config["model"]
    _check(model)
    named = {k: v for k, v in model.items() if k not in ("name", "arguments") and v is not None}
    return named | model["arguments"]


def asked_network(config: Config, classes: list[str], channels: int) -> Config:
    """The arguments of `segmenter` for the teacher that a config asks for, or for a lone student.

    Raises:
        UserError: a setting of `model` is wrong, or the encoder is not known.
    """
    named, settings = config["teacher"] or config["student"], config["data"]
    arguments = asked_arguments(config) | named["arguments"]
    model = config["model"]["name"]
    counts = [2] * depth_of(model, arguments) if model in TWICE else None
    return {
        "model": model,
        "encoder": encoder_of(named["name"]),
        "classes": len(classes),
        "channels": channels,
        "width": 1.0,
        "arguments": arguments,
        "convolutions": counts,
        "mean": settings["mean"],
        "std": settings["std"],
    }


def _check(model: Config) -> None:
    """Check what `model=unet` names, all together; smp checks the rest."""
    depth, channels = model.get("encoder_depth", 5), model.get("decoder_channels")
    faults = []
    if depth not in (3, 4, 5):
        faults.append(f"model.encoder_depth={depth}: give 3, 4 or 5")
    elif channels is not None and not (
        isinstance(channels, list)
        and len(channels) == depth
        and all(isinstance(count, int) and count > 0 for count in channels)
    ):
        usual = usual_channels(model["name"], {"encoder_depth": depth})["decoder_channels"]
        faults.append(
            f"model.decoder_channels={channels}: give {depth} whole numbers above 0, deepest "
            f"first, such as {usual}, as model.encoder_depth={depth} has so many decoder blocks"
        )
    if (kind := model.get("decoder_attention_type")) not in (None, "scse"):
        faults.append(f"model.decoder_attention_type={kind}: give null or scse")
    raise_faults("bad settings", faults)

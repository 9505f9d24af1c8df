"""Seeded, class-balanced splits as lists of file names."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import TEXT, write_text

MAX_VAL = 2000


def split_train(
    names: list[str], labels: list[int], val: int, seed: int
) -> tuple[list[str], list[str]]:
    """Cut a validation split off a train split.

    The result depends on the set of names, their labels and the seed, never on their order. Any
    prefix of either list holds the classes in proportion, so a fraction of train is a prefix.

    Args:
        names: file names of the train split.
        labels: class index of each.
        val: how many names the validation split gets, or fewer where classes would lose their last.
        seed: chooses the order.

    Returns:
        The names of train and of validation.
    """
    members: dict[int, list[str]] = defaultdict(list)
    for name, label in sorted(zip(names, labels, strict=True)):
        members[label].append(name)
    rng = np.random.default_rng(seed)
    placed: list[tuple[float, str]] = []
    for label in sorted(members):
        order = rng.permutation(len(members[label]))
        offset = rng.random()
        placed += [
            ((place + offset) / len(order), members[label][i]) for place, i in enumerate(order)
        ]
    kind = dict(zip(names, labels, strict=True))
    left = Counter(labels)
    train: list[str] = []
    held_out: list[str] = []
    for _, name in sorted(placed):
        spare = len(held_out) < val and left[kind[name]] > 1  # the last of a class is for training
        left[kind[name]] -= spare
        (held_out if spare else train).append(name)
    return train, held_out


def few(names: list[str], labels: list[int], count: int, seed: int) -> list[str]:
    """So many names, the classes in proportion; more of them hold all that fewer hold.

    Raises:
        UserError: there are not so many.
    """
    if count > len(names):
        raise UserError(f"data.images={count}: train holds {len(names)}; give no more than that")
    return split_train(names, labels, 0, seed)[0][:count]


def val_count(count: int) -> int:
    """Size of the validation split cut off `count` train images: a tenth, at most 2,000."""
    return min(round(count / 10), MAX_VAL)


def train_and_val(
    names: list[str],
    labels: list[int],
    brings_val: bool,
    *,
    seed: int,
    val: int | None,
    splits: str | None,
    protocol: str,
) -> tuple[list[str], list[str]]:
    """Split the train images of a data set as the options say.

    Args:
        names: file names of the train split.
        labels: class index of each.
        brings_val: the data set has a validation split of its own.
        seed: chooses the order.
        val: how many images to hold out; None for `val_count`.
        splits: folder with train.txt and val.txt, to be used instead.
        protocol: "holdout", or "paper" to hold nothing out.

    Returns:
        The names of train, in the order in which fractions are taken, and those held out.

    Raises:
        UserError: an option is wrong, or nothing is left to choose epochs on.
    """
    if protocol not in ("holdout", "paper"):
        raise UserError(f"eval.protocol={protocol}: give holdout or paper")
    if splits is not None:
        train, held_out = (_listed(Path(splits) / f"{s}.txt", names) for s in ("train", "val"))
    else:
        wanted = val_count(len(names)) if val is None else val
        if wanted >= len(names):
            raise UserError(f"data.val={wanted}: leaves none of {len(names)} train images to train")
        cut = 0 if brings_val or protocol == "paper" else wanted
        train, held_out = split_train(names, labels, cut, seed)
    if protocol == "holdout" and not brings_val and not held_out:
        raise UserError(
            f"{len(names)} train images are too few to cut a validation split off; "
            "add a val/ folder"
        )
    return train, held_out


def _listed(path: Path, known: list[str]) -> list[str]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; data.splits needs train.txt and val.txt")
    return read_split(path, known)


def take_fraction(
    train: list[str], fraction: float, whole: int, option: str = "data.fraction"
) -> list[str]:
    """The first `fraction` of `whole` names, as far as `train` reaches.

    Raises:
        UserError: the fraction is not in (0, 1], or leaves no image; it is called `option`.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"{option}={fraction}: give a fraction above 0 and up to 1")
    count = min(round(fraction * whole), len(train))
    if count == 0:
        raise UserError(f"{option}={fraction} of {whole} train images leaves none; raise it")
    return train[:count]


def with_every_class(taken: list[str], train: list[str], kinds: Mapping[str, int]) -> list[str]:
    """The names taken, and of each class that they lack the first one in `train`.

    Args:
        taken: a prefix of `train`.
        train: in the order in which fractions are taken.
        kinds: the class of each name.
    """
    first: dict[int, str] = {}
    for name in train:
        first.setdefault(kinds[name], name)
    there = {kinds[name] for name in taken}
    return [*taken, *(name for kind, name in first.items() if kind not in there)]


def write_split(path: Path, names: list[str]) -> None:
    """Write a split file, one name a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "\n".join(names) + "\n")


def read_split(path: Path, known: Iterable[str]) -> list[str]:
    """Read a split file.

    Raises:
        UserError: the file names images that are not in `known`, or one twice.
    """
    names = path.read_text(**TEXT).split("\n")
    names = [name for name in names if name]
    if strangers := sorted(set(names) - set(known)):
        raise UserError(
            f"{path}: names {len(strangers)} images that are not in the data set, "
            f"first {strangers[0]}; delete the file or put the images back"
        )
    if len(set(names)) < len(names):
        raise UserError(f"{path}: names an image twice; a split lists each once")
    return names


def split_hash(splits: dict[str, list[str]]) -> str:
    """SHA-256 of the names of every split."""
    digest = hashlib.sha256()
    for split in sorted(splits):
        digest.update("\n".join([split, *splits[split]]).encode(**TEXT))
    return digest.hexdigest()

"""Data sets: where their images and masks come from."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from seg_kd.legend import Legend, generated_palette, read_legend
from seg_kd.masks import VOID
from seg_kd.pairs import load_pairs, load_unlabelled
from stagewise_kd.data.finding import SPLITS, existing_root, labelled_folder, split_folders
from stagewise_kd.data.present import check_test_classes
from stagewise_kd.data.samples import Colour, Part, Repeated, Source
from stagewise_kd.data.shapes import CLASSES, draw_all
from stagewise_kd.system.errors import UserError

CAMVID = Legend(  # in SegNet's colours
    classes=("sky", "building", "pole", "road", "pavement", "tree", "signsymbol", "fence", "car",
             "pedestrian", "bicyclist"),
    colours=((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222),
             (128, 128, 0), (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0),
             (0, 128, 192)),
    void_colours=((0, 0, 0),),
    void_indices=(11,),
)  # fmt: skip


def shapes(
    size: Sequence[int] | None,
    kinds: Sequence[str] = CLASSES,
    train: int = 400,
    test: int = 100,
    seed: int = 0,
) -> Source:
    """Generated textured shapes on cluttered backgrounds, with their exact masks.

    Args:
        size: height and width, which are equal.
        kinds: the shapes that are drawn, each as often; all ten take more images to learn.
        train: images.
        test: images.
        seed: of everything drawn.

    Raises:
        UserError: the sides differ, or there is no such kind.
    """
    if size is None or size[0] != size[1]:
        shown = list(size) if size else "null"
        raise UserError(f"data.size={shown}: shapes are square, give one number")
    if not kinds or set(kinds) - set(CLASSES):
        raise UserError(f"data.source.kinds={list(kinds)}: give some of {', '.join(CLASSES)}")
    counts = {"train": train, "test": test}
    parts = {split: _drawn(split, count, size[0], seed, kinds) for split, count in counts.items()}
    return _source(Legend(("background", *kinds)), parts)


def _drawn(split: str, count: int, size: int, seed: int, kinds: Sequence[str]) -> Part:
    images, masks, _ = draw_all(split, count, size, seed, kinds)
    names = [f"{split}/{index:06d}" for index in range(count)]
    return Part(names, torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(masks))


def camvid(root: str | None, size: Sequence[int] | None, in_memory: bool | None = None) -> Source:
    """CamVid as split by SegNet: train/, val/, test/, and the masks in trainannot/ and so on.

    Args:
        root: the folder that holds them, or CamVid/ with them.
        size: height and width the images are used at; None for that of the files.
        in_memory: hold them decoded; None where they fit.

    Raises:
        UserError: a folder is missing, or lists what is wrong with the files.
    """
    path = existing_root(root, "camvid", ["train"])
    folders = {split: (split, f"{split}annot") for split in SPLITS}
    return _read(path, folders, CAMVID, size, 3, in_memory)


def folder(
    root: str | None,
    size: Sequence[int] | None,
    classes: str | None = None,
    channels: int | None = None,
    in_memory: bool | None = None,
    known: Sequence[str] | None = None,
) -> Source:
    """A user's own: {train,val,test}/images/ and {train,val,test}/masks/, and classes.yaml.

    An image and its mask share their name, not their format. With val/ and test/, epochs are chosen
    on val and test is reported; with one of them, that one is reported.

    Args:
        root: the folder that holds train/.
        size: height and width the images are used at; None where all are of one size.
        classes: the file that `read_legend` reads; None for classes.yaml in root.
        channels: of the images: 1 grey, 3 RGB, 4 RGBA; None: RGB, unless all are grey.
        in_memory: hold them decoded; None where they fit.
        known: the classes of a student that is only scored: test/ or images/ and masks/ alone will
            do.

    Raises:
        UserError: a folder is missing, or lists what is wrong with the files.
    """
    path, splits = split_folders(root, "folder", None if known is None else _is_split)
    below = {split: folder.relative_to(path) for split, folder in splits.items()}
    folders = {split: (f"{own / 'images'}", f"{own / 'masks'}") for split, own in below.items()}
    legend = read_legend(Path(classes) if classes else path / "classes.yaml")
    return _read(path, folders, legend, size, channels, in_memory)


def images(
    root: str | None,
    size: Sequence[int] | None,
    classes: Sequence[str],
    palette: Sequence[Colour] | None = None,
    channels: int | None = None,
    in_memory: bool | None = None,
    test: str | None = None,
    legend: str | None = None,
    known: Sequence[str] | None = None,
) -> Source:
    """Any folder of images, at any depth, without masks and splits.

    Args:
        root: the folder.
        size: height and width the images are used at; None where all are of one size.
        classes: that the teacher tells apart.
        palette: their colours, where it knows them.
        channels: of the images: 1 grey, 3 RGB, 4 RGBA; None: RGB, unless all are grey.
        in_memory: hold them decoded; None where they fit.
        test: a folder whose masks are scored: images/ and masks/, or those in test/.
        legend: the file that `read_legend` reads; None for classes.yaml in `test`.
        known: the classes of a student that is only scored: on `test`, else on all images.

    Raises:
        UserError: there are none, or they differ in size; or `test` is of
            other classes.
    """
    none, wanted = Part([], [], []), None if size is None else (size[0], size[1])
    if known is not None and test:
        return _labelled(test, wanted, classes, channels, in_memory, legend)
    if root is None:
        raise UserError("data=images needs data.root=DIR, a folder of images")
    names, found = load_unlabelled(root, wanted, channels, in_memory, "data.root")
    depth, height, width = found[0].shape
    blank = torch.full((height, width), VOID, dtype=torch.uint8)
    every = Part(names, found, Repeated(blank, len(names)))
    colours = palette or generated_palette(len(classes))
    source = Source([*classes], every, none, palette=colours, blank=blank, labelled=False)
    if known is not None:
        return replace(source, train=none, test=every)
    if test is None:
        return source
    labelled = _labelled(test, (height, width), classes, depth, in_memory, legend)
    return replace(labelled, train=every, blank=blank, labelled=False)


def _labelled(
    root: str,
    size: tuple[int, int] | None,
    classes: Sequence[str],
    channels: int | None,
    in_memory: bool | None,
    file: str | None,
) -> Source:
    """The images and masks of `data.test`."""
    path = labelled_folder(root)
    beside = [path / "classes.yaml", Path(root) / "classes.yaml"]
    legend = read_legend(Path(file) if file else next(filter(Path.is_file, beside), beside[0]))
    check_test_classes(root, classes, legend.classes)
    return _read(path, {"test": ("images", "masks")}, legend, size, channels, in_memory)


def _is_split(folder: Path) -> bool:
    return (folder / "images").is_dir()


def _read(
    root: Path,
    folders: dict[str, tuple[str, str]],
    legend: Legend,
    size: Sequence[int] | None,
    channels: int | None,
    in_memory: bool | None,
) -> Source:
    if missing := [
        name for pair in folders.values() for name in pair if not (root / name).is_dir()
    ]:
        raise UserError(f"{root}: no folder {', '.join(missing)} in it")
    wanted = (size[0], size[1]) if size is not None else None
    parts = load_pairs(root, folders, legend, wanted, channels, in_memory)
    return _source(legend, parts)


def _source(legend: Legend, parts: dict[str, Part]) -> Source:
    """The parts by split; with val or test alone, that one is reported."""
    test = parts.pop("test", None) or parts.pop("val")
    return Source(
        list(legend.classes),
        parts.get("train", Part([], [], [])),
        test,
        parts.get("val"),
        palette=legend.palette,
        blank=torch.full_like(test.labels[0], VOID) if test.names else VOID,
    )

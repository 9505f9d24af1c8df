"""Generated data set "shapes": one textured shape on a cluttered background, with its exact mask.

Every image is a function of (seed, split, index) alone: no files, no download, no global state.
Geometry lives in unit coordinates (x right, y down, the image is [0, 1] x [0, 1]), so one index
shows the same scene at every size. Colours and textures are drawn independently of the class.
"""

import zlib
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]

CLASSES: tuple[str, ...] = (
    *("arrow", "circle", "crescent", "cross", "heart"),
    *("hexagon", "ring", "square", "star", "triangle"),
)

# What sets the difficulty. Lengths in image widths, angles in radians.
RADIUS = (0.28, 0.42)
ROTATION = 0.25
SHEAR = 0.15
PERSPECTIVE = 0.15
CLUTTER = (1, 5)  # polygons and lines behind the shape, upper end excluded
CLUTTER_RADIUS = (0.05, 0.12)
OCCLUDERS = (0, 2)  # bars over the shape, upper end excluded
OCCLUDER_WIDTH = (0.02, 0.05)
TEXTURE = 0.25  # share of the distance between two random colours that a texture spans
CONTRAST = 80  # least difference in mean grey between the first colours of shape and background
NOISE_BITS = 3  # every channel of every pixel changes by up to 2 ** (NOISE_BITS - 1)


def draw(
    index: int, split: str, size: int = 64, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, int]:
    """One sample: image uint8 (size, size, 3), mask uint8 (size, size), label in 0..9.

    The mask is 0 on the background and occluders, label + 1 on the visible part of the shape.
    """
    label = index % len(CLASSES)
    rng = np.random.default_rng([seed, zlib.crc32(split.encode()), index])
    backdrop, fill = _contrasting_colours(rng)
    image = _texture(_pattern(rng, size), backdrop)
    pattern = _pattern(rng, size)
    for _ in range(rng.integers(*CLUTTER)):
        if rng.random() < 0.6:
            _paint(image, _coverage(_blob(rng), size), _colours(rng), pattern)
        else:
            _paint(image, _coverage(_bar(rng, rng.random(2), (0.2, 0.7)), size), _colours(rng))

    outline, centre = _place(rng, _outlines()[label])
    visible = _coverage(outline, size)
    _paint(image, visible, fill, _pattern(rng, size))
    for _ in range(rng.integers(*OCCLUDERS)):
        bar = _coverage(_bar(rng, centre + rng.uniform(-0.15, 0.15, 2), (0.3, 0.8)), size)
        _paint(image, bar, _colours(rng))
        visible.paste(0, mask=bar)

    noise = np.frombuffer(rng.bytes(3 * size * size), np.int8) >> (8 - NOISE_BITS)
    pixels = np.asarray(image, np.int16) + noise.reshape(size, size, 3)
    mask = (np.asarray(visible) >= 128) * np.uint8(label + 1)
    return pixels.clip(0, 255).astype(np.uint8), mask, label


def draw_all(
    split: str, count: int, size: int = 64, seed: int = 0, kinds: Sequence[str] = CLASSES
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First samples of a split: uint8 images (N, H, W, 3), masks (N, H, W); int64 labels (N,).

    Of some kinds alone, whose order their labels follow, the images are what they are among all.
    """
    images = np.empty((count, size, size, 3), np.uint8)
    masks = np.empty((count, size, size), np.uint8)
    labels = np.arange(count) % len(kinds)
    for number, label in enumerate(labels.tolist()):
        index = number // len(kinds) * len(CLASSES) + CLASSES.index(kinds[label])
        images[number], mask, _ = draw(index, split, size, seed)
        masks[number] = (mask > 0) * np.uint8(label + 1)
    return images, masks, labels


def _arc(start: float, stop: float, radius: float = 1.0, points: int = 40) -> np.ndarray:
    """Points on a circle around the origin, (points, 2)."""
    angle = np.linspace(start, stop, points)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _regular(corners: int) -> np.ndarray:
    """Regular polygon in the unit circle, one corner up, (corners, 2)."""
    return _arc(-np.pi / 2, 1.5 * np.pi, points=corners + 1)[:-1]


@cache
def _outlines() -> tuple[np.ndarray, ...]:
    """Outline of every class, in the order of CLASSES: polygons (V, 2) within the unit circle."""
    turn = 2 * np.pi
    t = np.linspace(0, turn, 40)
    height = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    heart = np.stack([16 * np.sin(t) ** 3, -2.5 - height], axis=1) / 17
    star = _regular(10) * np.where(np.arange(10) % 2, 0.42, 1.0)[:, None]
    inner = _arc(1.06, turn - 1.06, 0.83) + np.array([0.45, 0])
    a, b = 0.3, 0.95
    cross = np.array([(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a)])
    arrow = np.array([(0, -1), (0.75, -0.15), (0.28, -0.15), (0.28, 0.95)])
    return (
        np.concatenate([arrow, arrow[:0:-1] * [-1, 1]]),
        _arc(0, turn) * 0.9,
        np.concatenate([_arc(turn - 0.81, 0.81), inner]),
        np.concatenate([cross, -cross]),
        heart,
        _regular(6),
        np.concatenate([_arc(0, turn), _arc(turn, 0, 0.5)]),
        _arc(np.pi / 4, turn + np.pi / 4, points=5)[:-1],
        star,
        _regular(3),
    )


def _place(rng: Generator, outline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outline (V, 2) turned, sheared, in perspective, moved into the image; its centre (2,)."""
    radius = rng.uniform(*RADIUS)
    centre = rng.uniform(0.95 * radius, 1 - 0.95 * radius, 2)
    angle = rng.uniform(-ROTATION, ROTATION)
    cos, sin = np.cos(angle), np.sin(angle)
    shear = np.eye(2) + rng.uniform(-SHEAR, SHEAR, (2, 2))
    points = outline @ (shear @ np.array([[cos, -sin], [sin, cos]])).T
    depth = 1 + points @ rng.uniform(-PERSPECTIVE, PERSPECTIVE, 2)
    return centre + radius * points / depth[:, None], centre


def _blob(rng: Generator) -> np.ndarray:
    """Irregular polygon somewhere in the image, (V, 2)."""
    corners = rng.integers(4, 9)
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = rng.uniform(*CLUTTER_RADIUS) * rng.uniform(0.5, 1.5, corners)
    return rng.random(2) + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _bar(rng: Generator, centre: np.ndarray, length: tuple[float, float]) -> np.ndarray:
    """Thin rectangle of any direction around centre (2,), (4, 2)."""
    angle = rng.uniform(0, np.pi)
    along = np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(*length) / 2
    across = np.array([-np.sin(angle), np.cos(angle)]) * rng.uniform(*OCCLUDER_WIDTH) / 2
    return centre + np.stack([along + across, along - across, -along - across, across - along])


def _coverage(outline: np.ndarray, size: int) -> Image.Image:
    """Share of every pixel inside an outline (V, 2): grey image (size, size), 255 = all."""
    canvas = Image.new("L", (2 * size, 2 * size))
    ImageDraw.Draw(canvas).polygon((outline * (2 * size)).ravel().tolist(), fill=255)
    return canvas.reduce(2)


def _paint(
    image: Image.Image,
    cover: Image.Image,
    colours: list[Colour],
    pattern: Image.Image | None = None,
) -> None:
    """Colour the covered part of an image, in place: plain, or with a pattern; all (size, size)."""
    box = cover.getbbox()
    if box is not None:
        fill = _texture(pattern.crop(box), colours) if pattern else colours[0]
        image.paste(fill, box, cover.crop(box))


def _colours(rng: Generator) -> list[Colour]:
    """Two random colours of one texture, the second drawn towards the first."""
    first, second = rng.integers(0, 256, (2, 3)).tolist()
    near = [round(a + TEXTURE * (b - a)) for a, b in zip(first, second, strict=True)]
    return [tuple(first), tuple(near)]


def _contrasting_colours(rng: Generator) -> tuple[list[Colour], list[Colour]]:
    """Colours of background and shape; the shape is lighter by at least CONTRAST."""
    while True:
        backdrop, fill = _colours(rng), _colours(rng)
        if (sum(fill[0]) - sum(backdrop[0])) / 3 >= CONTRAST:
            return backdrop, fill


def _texture(pattern: Image.Image, colours: list[Colour]) -> Image.Image:
    """Grey pattern (size, size) in two colours: RGB image (size, size)."""
    image = Image.new("RGB", pattern.size, colours[0])
    image.paste(colours[1], mask=pattern)
    return image


def _pattern(rng: Generator, size: int) -> Image.Image:
    """Random pattern: grey image (size, size)."""
    field = _PATTERNS[rng.integers(len(_PATTERNS))](rng, size)
    return Image.fromarray((255 * field).astype(np.uint8))


def _waves(rng: Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sine waves across each other, turned at random, float32 (size, size) in [-1, 1]."""
    at = (np.arange(size, dtype=np.float32) + 0.5) / size
    angle, frequency = rng.uniform(0, np.pi), 2 * np.pi * rng.uniform(3, 9)
    x = np.exp(1j * frequency * np.cos(angle) * at).astype(np.complex64)
    y = np.exp(1j * frequency * np.sin(angle) * at).astype(np.complex64)
    turn_u, turn_v = np.exp(1j * rng.uniform(0, 2 * np.pi, 2)).astype(np.complex64)
    u, v = np.outer(y, turn_u * x), np.outer(turn_v * x, y.conj())
    return u.imag, v.imag


def _sharpen(field: np.ndarray) -> np.ndarray:
    """Field (H, W) around 0 to [0, 1], with steep but not aliased edges."""
    return (0.5 + 2 * field).clip(0, 1)


def _stripes(rng: Generator, size: int) -> np.ndarray:
    """Parallel stripes, float32 (size, size) in [0, 1]."""
    return _sharpen(_waves(rng, size)[0])


def _checker(rng: Generator, size: int) -> np.ndarray:
    """Checkerboard, float32 (size, size) in [0, 1]."""
    u, v = _waves(rng, size)
    return _sharpen(2 * u * v)


def _dots(rng: Generator, size: int) -> np.ndarray:
    """Dots on a square grid, float32 (size, size) in [0, 1]."""
    u, v = _waves(rng, size)
    return _sharpen(u + v - 0.8)


def _gradient(rng: Generator, size: int) -> np.ndarray:
    """Linear gradient of any direction, float32 (size, size) in [0, 1]."""
    at = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    return 0.5 + 0.7 * (float(np.cos(angle)) * at + float(np.sin(angle)) * at[:, None])


def _noise(rng: Generator, size: int) -> np.ndarray:
    """Smooth noise, float32 (size, size) in [0, 1]."""
    cells = rng.integers(4, 17)
    coarse = Image.fromarray(rng.random((cells, cells), np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BILINEAR))


_PATTERNS = (_checker, _dots, _gradient, _noise, _stripes)

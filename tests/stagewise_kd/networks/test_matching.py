import pytest
from torch import nn

from stagewise_kd.networks.blocks import Block, BlockNet
from stagewise_kd.networks.matching import matched
from stagewise_kd.system.errors import UserError


def chain(*names: str) -> BlockNet:
    """Blocks in a row, the last one a head."""
    reads = ["image", *names[:-1]]
    roles = ["encoder"] * (len(names) - 1) + ["head"]
    blocks = [
        Block(n, nn.Identity(), (r,), role) for n, r, role in zip(names, reads, roles, strict=True)
    ]
    return BlockNet(nn.Identity(), blocks, [0.0], [1.0])


def test_by_name_where_the_teacher_has_all_names():
    assert matched(chain("a", "c", "head"), chain("a", "b", "c", "head")) == (
        ("a", "a"),
        ("c", "c"),
    )


def test_in_order_where_names_differ():
    assert matched(chain("a", "b", "h"), chain("x", "y", "h")) == (("a", "x"), ("b", "y"))


def test_as_named_in_running_order():
    pairs = [["b", "x"], ["a", "y"]]
    assert matched(chain("a", "b", "h"), chain("x", "y", "h"), pairs) == (("a", "y"), ("b", "x"))


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (None, "the student has 2 blocks to match (a, b), the teacher 1 (x); name the pairs"),
        ([["a", "z"]], "the teacher has no feature 'z'; it has x, head"),
        ([["z", "x"]], "the student has no feature 'z'; it has a, b, head"),
        ([["a"]], "['a']: give a feature of the student and one of the teacher"),
        ([["a", "x"], ["a", "head"]], "names a feature of the student twice"),
    ],
)
def test_pairs_that_cannot_be(pairs, words):
    with pytest.raises(UserError) as error:
        matched(chain("a", "b", "head"), chain("x", "head"), pairs)
    assert words in str(error.value)


def measured(shapes: dict[str, tuple[int, ...]], image: tuple[int, ...] = (3, 32, 32)) -> BlockNet:
    """A chain whose features have these shapes."""
    net = chain(*shapes)
    net.shapes = {"image": image, **shapes}
    return net


CNN = {"stem": (8, 16, 16), "a": (16, 8, 8), "b": (32, 4, 4), "head": (10,)}


def test_where_resolutions_agree_several_last_to_last():
    teacher = {"p": (6, 8, 8), "q": (6, 8, 8), "r": (12, 4, 4), "head": (10,)}
    assert matched(measured(CNN), measured(teacher)) == (("a", "q"), ("b", "r"))


def test_a_name_does_not_count_where_resolutions_tell():
    """Half of the blocks of a transformer: the last of four is the last of two."""
    long = {f"blocks.{n}": (16, 8) for n in (2, 5, 8, 11)} | {"head": (10,)}
    short = {f"blocks.{n}": (16, 8) for n in (2, 5)} | {"head": (10,)}
    assert matched(measured(short), measured(long)) == (
        ("blocks.2", "blocks.8"),
        ("blocks.5", "blocks.11"),
    )


def test_channels_last_are_the_same_resolution():
    swin = {"p": (8, 8, 48), "q": (4, 4, 96), "head": (10,)}
    assert matched(measured(CNN), measured(swin)) == (("a", "p"), ("b", "q"))


def test_resolutions_that_never_meet():
    tokens = {"p": (17, 48), "q": (17, 48), "head": (10,)}
    with pytest.raises(UserError) as error:
        matched(measured(CNN), measured(tokens))
    assert "(stem 16×16, a 8×8, b 4×4)" in str(error.value)
    assert "(p 17, q 17) have no resolution in common" in str(error.value)
    assert "match.resize=true" in str(error.value)
    pairs = matched(measured(CNN), measured(tokens), resize=True)
    assert pairs == (("a", "p"), ("b", "q"))

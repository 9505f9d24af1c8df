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

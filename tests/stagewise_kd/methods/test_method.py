from functools import partial
from pathlib import Path

import pytest

from stagewise_kd.methods.hinton import hinton
from stagewise_kd.methods.method import (
    About,
    about,
    chosen_method,
    find_method,
    method_names,
    takes,
)
from stagewise_kd.methods.no_teacher import no_teacher
from stagewise_kd.methods.stagewise import stagewise
from stagewise_kd.system.errors import UserError


def own(task, student, teacher, *, epochs, gentle=True):
    return ()


def test_methods_are_found_by_their_modules():
    modules = {path.stem for path in Path(about.__code__.co_filename).parent.glob("*.py")}
    assert {"hinton", "no_teacher", "netgraft", "stagewise"} <= {*method_names()} < modules
    assert find_method("hinton") is hinton


def test_methods_tell_of_themselves():
    assert about(no_teacher) == About(needs_teacher=False)
    assert about(partial(partial(stagewise, head="teacher"), epochs=0)).reference
    assert about(own) == About(needs_teacher=True, reference=False)
    assert takes(stagewise, "head")
    assert not takes(partial(hinton, temperature=2), "head")


def test_without_labels_the_head_is_the_teachers():
    usual = {"schedule": "concurrent", "head": "teacher"}  # as the command lines schedule
    assert chosen_method("stagewise", {}, True, False) == (stagewise, usual)
    assert chosen_method("stagewise", {}, True, True)[1]["head"] == "labels"
    assert chosen_method("stagewise", {"schedule": "sequential"}, True, False)[1] == {
        "schedule": "sequential",
        "head": "teacher",
    }
    assert chosen_method(own, {"gentle": False}, True, False) == (own, {"gentle": False})


@pytest.mark.parametrize(
    ("method", "options", "taught", "words"),
    [
        (
            "hintn",
            {},
            True,
            "method='hintn': there are .*hinton, .*no_teacher, .*stagewise",
        ),
        ("hinton", {}, False, "method 'hinton' needs a teacher"),
        (own, {"rough": 1}, True, "method 'own' has no option rough; it has epochs, gentle"),
    ],
)
def test_what_cannot_be_chosen(method, options, taught, words):
    with pytest.raises(UserError, match=words):
        chosen_method(method, options, taught, True)

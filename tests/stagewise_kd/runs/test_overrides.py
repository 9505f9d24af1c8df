import pytest
from omegaconf import OmegaConf

from stagewise_kd.runs.composing import composing
from stagewise_kd.runs.overrides import absolute, as_typed
from stagewise_kd.system.errors import UserError

NAMES = [
    *(
        "1",
        "0",
        "2024",
        "20240501_1200",
        "1e3",
        "1.5",
        "0x1f",
        "1:30",
        "on",
        "true",
        "None",
        ".inf",
    ),
    *("a b", " a", "a ", "a#b", "a #b", "#a", "a:b", "a: b", "C:", "a,b", "a, b", ",a", "a,", ","),
    *("(a)", "a(b", "a)b", "[a]", "a[b", "a]b", "{a}", "a{b", "$a", "a@b", "@a", "a=b", "=a"),
    *("a'b", "'a'", "'", 'a"b', '"a"', "a\\b", "a\\", "\\", "a\\'", "\\\\a\\\\", "a\tb", "a/b"),
    *(
        "ä",
        "日本",
        "*",
        "a?b",
        "!a",
        "&a",
        "%a",
        "-",
        "--",
        "|",
        ">",
        "~a",
        "glob(a)",
        "range(1,3)",
    ),
]


@pytest.fixture(scope="module")
def compose():
    with composing("cls") as made:
        yield made


MORE = ("data.root", "teacher.checkpoint", "teacher.store")
KEYS = ["out", "student.init", *(pytest.param(key, marks=pytest.mark.slow) for key in MORE)]


@pytest.mark.parametrize("key", KEYS)
def test_a_path_is_text_as_typed(compose, key):
    for name in NAMES:
        assert OmegaConf.select(compose([as_typed(f"{key}={name}")]), key) == name


def test_null_and_other_settings_are_what_they_were(compose):
    items = ["out=null", "data.root=", "epochs=3", "data.size=[3,4]"]
    assert [as_typed(item) for item in items] == items


def test_commas(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c,d"):
        (tmp_path / name).mkdir()
    assert as_typed("data.root=c,d") == as_typed("data.root=c,d", study=True) == "data.root='c,d'"
    assert as_typed("data.root=a,b", study=True) == "data.root='a','b'"
    assert as_typed("data.root=a,new") == "data.root='a,new'"
    with pytest.raises(UserError, match=r"data\.root=a,b: names 2 paths; add -m"):
        as_typed("data.root=a,b")


def test_words_beside_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("student.init", "teacher") == "teacher"
    assert absolute("student.init", "./teacher") == absolute("data.root", "teacher")
    assert absolute("data.root", "teacher") == str(tmp_path / "teacher")
    with pytest.raises(UserError, match="names 2 paths; add -m"):
        as_typed("student.init=teacher,random")

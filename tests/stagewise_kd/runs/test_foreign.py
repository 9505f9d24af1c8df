from stagewise_kd.data.samples import Part, Source
from stagewise_kd.runs.foreign import check_of, val_may_be_seen

SOURCE = Source(["a", "b"], Part([], [], []), Part([], [], []))
METHODS = "stagewise_kd.methods"


def config(checkpoint, method="stagewise", check=True, **changes) -> dict:
    return {
        "teacher": {"checkpoint": checkpoint and str(checkpoint), "check": check},
        "method": {"_target_": f"{METHODS}.{method}.{method}", "_partial_": True},
        "data": {},
        "eval": {"protocol": "holdout"},
    } | changes


def test_only_a_teacher_that_was_given_and_teaches_stops_a_run():
    assert check_of(config("t.pt")) == "stop"
    assert check_of(config(None)) == "warn"
    assert check_of(config("t.pt", "no_teacher")) == "warn"
    assert check_of(config("t.pt", check=False)) == "none"
    assert check_of(config(None) | {"teacher": None}) == "none"


def test_validation_images_that_a_teacher_may_have_seen(tmp_path):
    def seen(given, source=SOURCE):
        return val_may_be_seen(given, source, ["x", "y"])

    assert seen(config("t.pt"))
    assert not seen(config(None))
    assert not seen(config("t.pt"), Source(["a"], SOURCE.train, SOURCE.test, val=SOURCE.test))
    assert not seen(config("t.pt", data={"splits": "mine"}))
    assert not seen(config("t.pt", eval={"protocol": "paper"}))
    assert not seen(config("t.pt", "no_teacher"))
    (tmp_path / "splits").mkdir()
    for names, expected in (("a\nb\n", False), ("a\ny\n", True)):  # of a run folder of ours
        (tmp_path / "splits" / "train.txt").write_text(names)
        assert seen(config(tmp_path)) is expected

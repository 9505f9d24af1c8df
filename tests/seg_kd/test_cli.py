import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

import seg_kd
from seg_kd.channels import read_image
from seg_kd.cli import main
from seg_kd.front_end import make_task
from stagewise_kd.data.samples import Part, Source
from stagewise_kd.networks.resnet import resnet
from tests.fake_runs import write_run

TINY = [
    "data.source.train=16",
    "data.source.test=6",
    "data.size=32",
    "data.val=4",
    "epochs=1",
    "batch_size=4",
    "student=resnet10",
    "teacher=resnet18",
]


def cli(*argv: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    return caught.value.code


def read(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """Every command runs in a folder of its own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def unet(**options) -> smp.Unet:
    torch.manual_seed(0)
    return smp.Unet("resnet18", **{"encoder_weights": None, "classes": 5, **options})


@pytest.fixture(scope="session")
def teacher(tmp_path_factory) -> Path:
    """A folder written by plain smp."""
    path = tmp_path_factory.mktemp("teacher")
    unet().save_pretrained(path)
    return path


@pytest.fixture
def command(teacher) -> list[str]:
    return ["run", *TINY, f"teacher.checkpoint={teacher}", "out=run"]


@pytest.fixture(scope="session")
def finished(teacher, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    assert cli("run", *TINY, f"teacher.checkpoint={teacher}", f"out={out}") == 0
    return out


def test_run_writes_the_contract(finished):
    result = read(finished / "result.json")
    assert (result["task"], result["decoder"], result["student"]) == (
        "segmentation",
        "default",
        "resnet10",
    )
    assert {"miou", "dice", "pixel_accuracy", "miou_paper"} <= set(result["student_metrics"])
    assert [stage["name"] for stage in result["stages"]] == ["features", "decoder"]
    assert "miou" in result["stages"][0]["graft"]
    assert result["cost"]["student"]["macs"] < result["cost"]["teacher"]["macs"]


def test_encoder_stays_bit_identical_while_the_decoder_trains(finished):
    before = load_file(finished / "stages" / "00-features" / "best.safetensors")
    after = load_file(finished / "stages" / "01-decoder" / "best.safetensors")
    encoder = [key for key in before if ".encoder." in key]
    assert any("running_mean" in key for key in encoder)
    assert all(before[key].equal(after[key]) for key in encoder)
    assert any(not before[key].equal(after[key]) for key in before if ".decoder." in key)


def test_a_classifier_as_the_start_of_the_encoder(command, here, capsys):
    classifier = resnet("resnet10", 10).model
    torch.save(classifier.state_dict(), here / "classifier.pt")
    frozen = ["method=no_teacher", "method.trains=head", "student.init=classifier.pt"]
    assert cli(*command, *frozen) == 0
    line = capsys.readouterr().err
    assert "decoder0, decoder1, decoder2, decoder3, decoder4, head: not there" in line
    trained = load_file(here / "run" / "student" / "model.safetensors")
    body = {k: v for k, v in classifier.state_dict().items() if not k.startswith("fc.")}
    assert body and all(trained[f"encoder.{name}"].equal(value) for name, value in body.items())


def test_cached_and_uncached_are_the_same_run(command, here):
    """Skips, masks of a view, and images whose masks are not used come from the cache as well."""
    exact = ["epochs=2", "data.label_fraction=0.5", "trainer.precision=32-true"]
    # Adam's first steps are as long for a gradient of rounding errors as for any other
    exact += ["optimizer=sgd", "scheduler=constant"]
    cache = {"cached": ["cache.dtype=float32", "cache.views=10"], "uncached": ["cache.budget_gb=0"]}
    for name, options in cache.items():
        assert cli(*command, *exact, *options, f"out={name}") == 0
    stages = [read(here / name / "result.json")["stages"] for name in cache]
    assert [all(stage["cache"]["bytes"] for stage in own) for own in stages] == [True, False]
    students = [load_file(here / name / "student" / "model.safetensors") for name in cache]
    for key, value in students[0].items():
        torch.testing.assert_close(value, students[1][key], rtol=1e-3, atol=1e-4)


def test_student_opens_with_smp_and_with_ours(finished):
    image = torch.rand(1, 3, 64, 32)
    with torch.no_grad():
        ours = seg_kd.load(finished)(image)
        theirs = smp.from_pretrained(str(finished / "student")).eval()(image)
    assert torch.allclose(ours, theirs, atol=1e-5)
    described = read(finished / "student" / "network.json")
    assert (described["task"], described["classes"][0]) == ("segmentation", "background")


def test_evaluate_gives_the_runs_own_figures(finished, capsys):
    assert cli("evaluate", str(finished)) == 0
    figures = json.loads(capsys.readouterr().out)
    expected = read(finished / "result.json")["student_metrics"]
    assert figures | {"agreement": expected["agreement"]} == {"images": 6, **expected}


@pytest.mark.parametrize(
    "override",
    [
        "method=no_teacher",
        "method=simultaneous",
        "method=hinton",
        "schedule=sequential",
        "method.distill_decoder=true",
        "loss=[dice,focal]",
        "augment=strong",
    ],
)
def test_variants_run(command, override):
    assert cli(*command, override) == 0


def test_one_loss_needs_no_list():
    source = Source(["a", "b"], Part([], [], []), Part([], [], []))
    assert make_task({"loss": "dice", "class_weights": None}, source).losses == ["dice"]


def test_matched_decoder_and_half_width(command, here):
    assert cli(*command, "decoder=matched", "student.width=0.5") == 0
    student = here / "run" / "student"
    network = read(student / "network.json")["network"]
    assert network["arguments"]["decoder_channels"] == [128, 64, 32, 16, 8]
    assert network["convolutions"] == [1, 1, 1, 1, 1]
    assert not (student / "config.json").exists()  # smp has no such network
    model = seg_kd.load(student)
    assert model.encoder.conv1.out_channels == 32
    adapters = load_file(here / "run" / "stages" / "00-features" / "best.safetensors")
    assert adapters["adapters.stem.weight"].shape == (64, 32, 1, 1)
    assert not [key for key in load_file(student / "model.safetensors") if "adapter" in key]


def test_student_without_labels_keeps_the_teachers_decoder(command, teacher, here):
    assert cli(*command, "decoder=teacher", "decoder.train=false") == 0
    stages = read(here / "run" / "result.json")["stages"]
    assert [stage["name"] for stage in stages] == ["features"]
    student = load_file(here / "run" / "student" / "model.safetensors")
    theirs = load_file(teacher / "model.safetensors")
    kept = [key for key in student if not key.startswith("encoder.")]
    assert kept
    assert all(student[key].equal(theirs[key]) for key in kept)


def test_decoder_starts_as_the_teachers(command, teacher, here):
    assert cli(*command, "decoder=teacher", "lr=1e-9", "method.finetune_epochs=1") == 0
    student = load_file(here / "run" / "student" / "model.safetensors")
    theirs = load_file(teacher / "model.safetensors")
    key = "decoder.blocks.0.conv1.0.weight"
    assert torch.allclose(student[key], theirs[key], atol=1e-6)


@pytest.mark.parametrize(("options", "seen"), [([], 12), (["method.head_kd=none"], 3)])
def test_few_labels(command, here, options, seen):
    assert cli(*command, "data.label_fraction=0.25", *options) == 0
    stages = read(here / "run" / "result.json")["stages"]
    assert [stage["images_seen"] for stage in stages] == [5 * 12, seen]


@pytest.mark.parametrize("prefix", ["", "model.", "net.unet."])
def test_teacher_from_a_state_dict(command, prefix, tmp_path):
    weights = {f"{prefix}{key}": value for key, value in unet().state_dict().items()}
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "teacher.ckpt")
    override = f"teacher.checkpoint={tmp_path / 'teacher.ckpt'}"
    assert cli(*command, override, "method=hinton") == 0


def test_teacher_from_a_run_and_trained_by_one(command, finished, here):
    own = [f"teacher.checkpoint={finished}", "teacher=resnet10", "method=hinton"]
    assert cli(*command, *own) == 0
    trained = ["teacher.checkpoint=null", "teacher.epochs=1", "method=hinton"]
    assert cli(*command, *trained, "out=one") == 0
    assert cli(*command, *trained, "decoder=matched", "out=two") == 0
    assert len(list((here / "runs" / "teachers").iterdir())) == 1
    hashes = {read(here / name / "manifest.json")["teacher_hash"] for name in ("one", "two")}
    assert len(hashes) == 1


def test_depth_and_attention(command, here):
    options = ["teacher.checkpoint=null", "teacher.epochs=1", "model.encoder_depth=4"]
    options += ["model.decoder_attention_type=scse"]
    assert cli(*command, *options) == 0
    network = read(here / "run" / "student" / "network.json")["network"]["arguments"]
    assert (network["encoder_depth"], network["decoder_attention_type"]) == (4, "scse")


def test_predict_writes_indexed_masks_of_the_images_own_size(finished, here):
    (here / "photos").mkdir()
    Image.effect_noise((70, 50), 60).convert("RGB").save(here / "photos" / "a.jpg")
    assert cli("predict", str(finished), "photos", "--out", "seen") == 0
    with Image.open(here / "seen" / "a.png") as mask:
        assert (mask.mode, mask.size) == ("P", (70, 50))
        assert np.asarray(mask).max() < 11
    with Image.open(here / "seen" / "a_overlay.jpg") as overlay:
        assert overlay.size == (70, 50)


def test_predict_tells_of_damaged_files_at_the_end(finished, here, capsys):
    (here / "photos").mkdir()
    for name in ("a", "b", "c"):
        Image.effect_noise((40, 40), 60).convert("RGB").save(here / "photos" / f"{name}.png")
    damaged = here / "photos" / "b.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    assert cli("predict", str(finished), "photos", "--out", "seen") == 1
    said = capsys.readouterr().err
    assert "error: 1 of 3 images cannot be read, the others are done; replace or delete: " in said
    assert "photos/b.png (" in said
    assert sorted(path.name for path in (here / "seen").glob("*.png")) == ["a.png", "c.png"]


def test_a_picture_beyond_pillows_limit_is_opened(here):
    Image.new("L", (20_000, 9_500)).save(here / "wide.png", compress_level=1)  # 190 megapixels
    assert read_image(here / "wide.png", (32, 32), 1).shape == (1, 32, 32)


def test_logits_are_enlarged_as_a_whole_would_be():
    from seg_kd.predict import segment
    from stagewise_kd.networks.segmenters import segmenter

    torch.manual_seed(0)
    net = segmenter("unet", "resnet10", 3, arguments={"encoder_depth": 3}).eval()
    image = Image.effect_noise((300, 610), 90).convert("RGB")
    small = torch.from_numpy(np.array(image.resize((64, 32), Image.Resampling.BILINEAR)))
    with torch.no_grad():
        logits = net(small.permute(2, 0, 1)[None] / 255)
        whole = F.interpolate(logits, (610, 300), mode="bilinear").argmax(dim=1)[0]
    found = segment(net, image, [32, 64], tile=1024, overlap=128)
    assert len(np.unique(found)) > 1
    assert (found == whole.numpy()).mean() > 0.9999


def test_tiles_agree_with_the_whole_image():
    from seg_kd.predict import segment
    from stagewise_kd.networks.segmenters import segmenter

    torch.manual_seed(0)
    net = segmenter("unet", "resnet10", 3, arguments={"encoder_depth": 3}).eval()
    image = Image.effect_noise((352, 224), 90).convert("RGB")
    whole = segment(net, image, None, tile=1024, overlap=128)
    tiled = segment(net, image, None, tile=160, overlap=64)
    assert whole.shape == (224, 352)
    assert len(np.unique(whole)) > 1
    assert (whole == tiled).mean() > 0.99


def test_images_without_masks(teacher, here, capsys):
    for number in range(12):
        (here / "photos" / "new").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (20 * number, 9, 0)).save(here / "photos/new" / f"{number}.png")
    data = ["data=images", "data.root=photos", f"teacher.checkpoint={teacher}", "steps=1"]
    networks = ["student=resnet10", "teacher=resnet18", "batch_size=4"]
    assert cli("run", *data, *networks, "out=run") == 0
    result = read(here / "run" / "result.json")
    assert (result["metric"], result["columns"]) == ("agreement", ["agreement"])
    assert (result["decoder"], [stage["name"] for stage in result["stages"]]) == (
        "teacher",
        ["features"],
    )
    assert read(here / "run/student/network.json")["classes"] == ["0", "1", "2", "3", "4"]
    assert cli("compare", "run", "--out", "page") == 0
    html = (here / "page" / "index.html").read_text()
    assert "truth" not in html and html.count(".png, agreement ") == 1
    for kind in ("images", "masks"):
        (here / "some" / kind).mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (32, 32), (0, 80 * number, 0)).save(here / "some/images" / f"{number}.png")
        Image.new("L", (32, 32), number).save(here / "some/masks" / f"{number}.png")
    (here / "some" / "classes.yaml").write_text("classes: [a, b, c, d, e]\n")
    assert cli("evaluate", "run", "data.test=some") == 0
    assert cli("run", *data, *networks, "data.test=some", "out=tested") == 0
    result = read(here / "tested" / "result.json")
    assert result["columns"] == ["miou", "agreement"]
    assert {"iou/a", "agreement", "miou"} <= set(result["student_metrics"])
    capsys.readouterr()
    (here / "some" / "classes.yaml").write_text("classes: [b, a, c, d, e]\n")
    assert cli("evaluate", "tested", "data.test=some", "data.root=other") == 2
    assert "the classes are b, a, c, d, e, the teacher's a, b" in capsys.readouterr().err
    assert cli("run", *data, *networks, "decoder=matched", "out=matched") == 2
    assert "without labels method=hinton" in capsys.readouterr().err
    assert cli("run", *data, *networks, "decoder=matched", "method=hinton", "out=matched") == 0


def test_compare_shows_the_worst_images_of_every_variant(finished, command, here, capsys):
    assert cli(*command, "decoder=matched") == 0
    assert cli("compare", str(finished), "run", "--out", "page") == 0
    html = (here / "page" / "index.html").read_text()
    for word in ("matched", "default", "truth", "resnet18 teacher"):
        assert word in html
    assert html.count("test/0000") >= 6


def test_runs_whose_weights_are_gone_are_compared_without_pictures(finished, here, capsys):
    shutil.copytree(finished, here / "kept", ignore=shutil.ignore_patterns("student"))
    assert cli("compare", "kept", "--out", "page") == 0
    assert "no pictures: kept: holds no finished student" in capsys.readouterr().err
    assert "resnet10" in (here / "page" / "index.html").read_text()


@pytest.fixture
def streets(here) -> list[str]:
    """Overrides for a folder of six images of one size and their masks."""
    for split in ("train", "test"):
        for kind in ("images", "masks"):
            (here / "streets" / split / kind).mkdir(parents=True)
        for number in range(6):
            pixels = np.full((32, 64, 3), 40 * number, np.uint8)
            Image.fromarray(pixels).save(here / "streets" / split / "images" / f"{number}.png")
            mask = np.full((32, 64), number % 2, np.uint8)
            Image.fromarray(mask).save(here / "streets" / split / "masks" / f"{number}.png")
    (here / "streets" / "classes.yaml").write_text("classes: [road, car]")
    own = [item for item in TINY if not item.startswith("data.")]
    return ["data=folder", "data.root=streets", "data.val=2", *own]


def test_images_of_one_size_need_no_size(streets, here):
    assert cli("run", *streets, "method=no_teacher", "out=run") == 0
    assert read(here / "run" / "student" / "network.json")["size"] is None


def test_grey_images_become_rgb_where_that_is_said(streets, here, capsys):
    for path in (here / "streets").glob("*/images/*.png"):
        with Image.open(path) as file:
            grey = file.convert("L")
        grey.save(path)
    unet(classes=2).save_pretrained("three")
    taught = ["run", *streets, "teacher.checkpoint=three", "method=hinton", "out=run"]
    assert cli(*taught) == 2
    assert "all images are grey; set data.channels=3 to read them as RGB" in capsys.readouterr().err
    assert cli(*taught, "data.channels=1") == 2
    told = "it takes 3, the run gives 1; set data.channels=3, which reads grey images as RGB"
    assert told in capsys.readouterr().err
    assert not (here / "run").exists()
    assert cli(*taught, "data.channels=3") == 0


def test_masks_that_are_all_void_are_refused_before_a_teacher_is_trained(streets, here, capsys):
    (here / "streets" / "classes.yaml").write_text("classes: [road, car]\nvoid: 255")
    for path in (here / "streets").glob("*/masks/*.png"):
        Image.new("L", (64, 32), 255).save(path)
    assert cli("run", *streets, "out=run") == 2
    assert "error: train and val: no pixel has a label, all are void;" in capsys.readouterr().err
    assert not list(here.glob("run*/**/*.json"))


def test_a_run_is_evaluated_from_anywhere(streets, here, monkeypatch, capsys):
    (here / "more").mkdir()
    Image.new("RGB", (64, 32)).save(here / "more" / "a.png")
    assert cli("run", *streets, "teacher.epochs=1", "data.unlabelled=more", "out=run") == 0
    (here / "more" / "a.png").unlink()
    monkeypatch.chdir(here.parent)
    capsys.readouterr()
    assert cli("evaluate", str(here / "run")) == 0
    figures = capsys.readouterr().out
    shutil.rmtree(here / "streets" / "train")  # test alone will do, or its images and masks
    for changed in ((), ("data.root=here/streets/test", "data.classes=here/streets/classes.yaml")):
        assert cli("evaluate", str(here / "run"), *changed) == 0
        assert capsys.readouterr().out == figures


class TestBadInput:
    """One clear message, status 2, nothing left behind."""

    def said(self, capsys, *argv: str) -> str:
        assert cli(*argv) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        assert error.startswith("error: ")
        assert list(Path.cwd().iterdir()) == []
        return error

    @pytest.mark.parametrize(
        ("overrides", "words"),
        [
            (["student=resnet11"], ["resnet10", "resnet26"]),
            (["teacher=resnet34"], ["holds a resnet18 encoder", "set teacher=resnet18"]),
            (["decoder=default", "decoder.train=false"], ["set decoder=teacher"]),
            (["decoder=teacher", "student.width=0.5"], ["does not fit", "use decoder=default"]),
            (["decoder=teacher", "method=no_teacher"], ["takes nothing from a teacher"]),
            (["schedule=all"], ["give sequential or concurrent"]),
            (["model.encoder_depth=7"], ["model.encoder_depth=7: give 3, 4 or 5"]),
            (["model.decoder_channels=[64,32]"], ["[64, 32]: give 5 whole numbers above 0"]),
            (["model.decoder_channels=[64,32,0,8,8]"], ["give 5 whole numbers above 0"]),
            (
                ["model.decoder_attention_type=foo", "model.encoder_depth=6"],
                ["=foo: give null or scse", "3, 4 or 5"],
            ),
            (["class_weights=[-1,2,3]"], ["class_weights=[-1, 2, 3]", "there are 5"]),
            (["loss=null"], ["loss=[None]: give one or more"]),
            (["loss=[bce]"], ["give one or more of cross_entropy, dice, focal"]),
            (["data.label_fraction=0"], ["data.label_fraction=0"]),
            (["data=camvid", "data.root=nowhere"], ["nowhere: no such folder"]),
            (["data=camvid"], ["needs data.root"]),
            (["student.width=0"], ["student.width=0"]),
            (
                ["model=pan", "teacher.checkpoint=null"],
                ["cannot take images of (3, 32, 32)", "Output size is too small"],
            ),
        ],
    )
    def test_override(self, command, capsys, overrides, words):
        error = self.said(
            capsys,
            *[c for c in command if "data" not in c or "data" not in overrides[0]],
            *overrides,
        )
        for word in words:
            assert word in error

    def test_teacher_of_other_classes(self, command, capsys, tmp_path):
        unet(classes=6).save_pretrained(tmp_path / "six")
        error = self.said(capsys, *command, f"teacher.checkpoint={tmp_path / 'six'}")
        assert "classes: it knows 6, the data has 5 (background, circle" in error

    def test_teacher_of_other_channels(self, command, capsys, tmp_path):
        unet(in_channels=1).save_pretrained(tmp_path / "grey")
        error = self.said(capsys, *command, f"teacher.checkpoint={tmp_path / 'grey'}")
        assert "channels of images: it takes 1, the run gives 3; set data.channels=1" in error

    def test_teacher_of_another_architecture(self, command, capsys, tmp_path):
        smp.FPN("resnet18", encoder_weights=None).save_pretrained(tmp_path / "fpn")
        error = self.said(capsys, *command, f"teacher.checkpoint={tmp_path / 'fpn'}")
        assert "it is a FPN, the run asks for model=unet; set model=fpn" in error

    def test_predict_into_what_cannot_be_written(self, finished, capsys, tmp_path):
        Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
        (tmp_path / "file").write_text("")
        out = tmp_path / "file" / "seen"
        error = self.said(
            capsys, "predict", str(finished), str(tmp_path / "a.png"), "--out", str(out)
        )
        assert f"{out}: cannot be written (Not a directory); give an --out that can" in error

    def test_predict_over_the_images(self, finished, capsys, tmp_path):
        Image.new("RGB", (40, 40), (9, 9, 9)).save(tmp_path / "a.png")
        before = (tmp_path / "a.png").read_bytes()
        for path in (tmp_path, tmp_path / "a.png"):
            error = self.said(capsys, "predict", str(finished), str(path), "--out", str(tmp_path))
            assert f"--out {tmp_path}: lies where images are read" in error
        assert (tmp_path / "a.png").read_bytes() == before

    def test_predict_on_damaged_files_alone(self, finished, capsys, tmp_path):
        photos = tmp_path / "photos"
        photos.mkdir()
        for name in ("b", "c"):
            (photos / f"{name}.png").write_bytes(b"no image")
        error = self.said(capsys, "predict", str(finished), str(photos), "nowhere.png")
        for path in (photos / "b.png", photos / "c.png", "nowhere.png"):
            assert f"- {path}" in error

    def test_run_of_the_other_front_end(self, command, capsys, tmp_path):
        run = write_run(
            tmp_path / "other", config={"data": dict.fromkeys(("name", "root", "size", "splits"))}
        )
        (run / "student").mkdir()
        (run / "student" / "network.json").write_text('{"task": "classification", "network": {}}')
        for argv in (
            ["evaluate", str(run)],
            ["predict", str(run), "a.png"],
            ["compare", str(run)],
            [*command, f"teacher.checkpoint={run}"],
        ):
            error = self.said(capsys, *argv)
            assert f"{run}: is a classification run, expected a segmentation run" in error

    @pytest.mark.parametrize(("tile", "overlap"), [("1024", "-32"), ("0", "-32"), ("0", "0")])
    def test_tiles_that_do_not_go(self, capsys, tile, overlap):
        options = [f"--tile={tile}", f"--overlap={overlap}"]
        error = self.said(capsys, "predict", "run", "a.png", *options)
        assert f"--tile {tile} --overlap {overlap}: give multiples of 32, an overlap of 0" in error

    def test_folder_that_is_no_model(self, command, capsys, tmp_path):
        (tmp_path / "none").mkdir()
        error = self.said(capsys, *command, f"teacher.checkpoint={tmp_path / 'none'}")
        assert "holds no finished student" in error

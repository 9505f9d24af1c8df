"""The front door in Python."""

import json
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, SubsetRandomSampler
from torchvision.models import resnet18

import cls_kd
import seg_kd
import stagewise_kd as skd
from cls_kd.cli import main as cls_main
from seg_kd.cli import main as seg_main
from stagewise_kd.methods.losses import mse
from stagewise_kd.methods.plan import LOSS
from stagewise_kd.training.recorder import Recorder
from tests.conftest import tiny_net

TRAINER = {"accelerator": "cpu", "precision": "32-true"}
PLACES = ["a", "b"]


def conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU(True)
    )


class Net(nn.Module):
    def __init__(self, width: int = 4, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.a = conv(3, width)
        self.b = conv(width, 2 * width)
        self.head = nn.Linear(2 * width, 3)

    def forward(self, x):
        return self.head(self.b(self.a(x)).mean((2, 3)))


def pictures(count: int, seed: int, labelled: bool = True) -> list:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 8, 8), generator=generator).to(torch.uint8)
    return [(image, n % 3) if labelled else image for n, image in enumerate(images)]


def distill(out: Path | None, student: nn.Module | None = None, **options) -> skd.Run:
    usual = {"epochs": 2, "at": PLACES, "trainer": TRAINER, "batch_size": 8}
    schedule = {} if "method" in options else {"schedule": "sequential"}
    settings = usual | schedule | options
    teacher = settings.pop("teacher", Net(seed=1))
    train = settings.pop("train", pictures(24, 0))
    return cls_kd.distill(student or Net(seed=2), teacher, train, out=out, **settings)


def bits(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(v.equal(other[name]) for name, v in one.items())


def test_a_copy_is_trained_and_what_is_given_stays(tmp_path):
    student, teacher = Net(seed=2), Net(seed=1)
    before = bits(student), bits(teacher)
    run = distill(tmp_path / "run", student, teacher=teacher, test=pictures(9, 5))
    assert type(run.student) is Net
    assert not run.student.training
    assert (same(bits(student), before[0]), same(bits(teacher), before[1])) == (True, True)
    assert student.training
    assert teacher.training
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    kept = load_file(tmp_path / "run" / "student" / "model.safetensors")
    assert same(bits(run.student), kept)
    assert not same(kept, before[0])
    assert run.result == json.loads((tmp_path / "run" / "result.json").read_text())
    assert (run.result["student"], run.result["protocol"], run.result["images"]) == (
        "Net",
        "holdout",
        22,
    )
    assert {"accuracy", "agreement"} < set(run.result["student_metrics"])


def test_nothing_is_kept_where_no_folder_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run = distill(None)
    assert run.path is None
    assert run.result["protocol"] == "val"
    assert not [*tmp_path.iterdir()]
    said = " ".join(capsys.readouterr().err.split())
    assert "the validation images are cut off train, and a teacher trained elsewhere" in said


def test_a_finished_run_gives_what_is_there(tmp_path, capsys):
    first = distill(tmp_path / "run")
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.name != ".lock"}
    again = distill(tmp_path / "run")
    assert "is finished already" in " ".join(capsys.readouterr().err.split())
    assert again.result == first.result
    assert same(bits(again.student), bits(first.student))
    for path, changed in files.items():
        assert path.is_dir() or path.stat().st_mtime_ns == changed


def features_only(task, student, teacher, *, epochs):
    return (skd.Stage("a", ("a",), (skd.Term("a", mse, "a", "a"),), epochs, LOSS),)


def features_weighted(task, student, teacher, *, epochs):
    term = skd.Term("a", mse, "a", "a", weight=features_weighted.weight)
    return (skd.Stage("a", ("a",), (term,), epochs, LOSS),)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 3}, "another configuration (was epochs: 2; now epochs: 3)"),
        ({"method": "hinton"}, "was _target_: stagewise_kd.methods.stagewise.stagewise"),
        ({"schedule": "concurrent"}, "now schedule: concurrent"),
        ({"match": [("b", "b")]}, "now match:"),
        ({"teacher": Net(seed=7)}, "the teacher has other weights"),
        ({"student": Net(seed=7)}, "starts from other weights: call torch.manual_seed before"),
        ({"train": pictures(24, 8)}, "samples of the data have another content"),
        ({"train": pictures(25, 0)}, "the splits name other samples"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_goes_on_with_nothing_else(tmp_path, change, words, finished):
    distill(tmp_path / "run")
    if not finished:
        (tmp_path / "run" / "result.json").unlink()
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with pytest.raises(skd.UserError) as error:
        distill(tmp_path / "run", **change)
    assert words in str(error.value)
    assert before == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}


def test_a_plan_is_told_by_its_content(tmp_path):
    features_weighted.weight = 1.0
    distill(tmp_path / "run", method=features_weighted)
    features_weighted.weight = 0.5
    with pytest.raises(skd.UserError, match=r"stage 'a' of the plan: terms was .* 1.0, .* 0.5"):
        distill(tmp_path / "run", method=features_weighted)


def test_a_plan_of_ones_own(tmp_path):
    student = Net(seed=2)
    run = distill(tmp_path / "run", student, method=features_only)
    assert [stage["name"] for stage in run.result["stages"]] == ["a"]
    before, after = bits(student), bits(run.student)
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed == {name for name in before if name.startswith("a.")}


def test_a_method_that_matches_nothing_needs_no_places(tmp_path):
    run = distill(tmp_path / "run", teacher=resnet18(num_classes=3), method="hinton", at=None)
    assert run.result["teacher"] == "resnet18"


def test_networks_cut_at_places_of_their_own(tmp_path):
    class Other(Net):
        def __init__(self) -> None:
            super().__init__(6)
            self.first, self.second = self.a, self.b
            del self.a, self.b

        def forward(self, x):
            return self.head(self.second(self.first(x)).mean((2, 3)))

    run = distill(tmp_path / "run", teacher=Other(), at=[PLACES, ["first", "second"]])
    assert [stage["name"] for stage in run.result["stages"]] == ["a", "b", "head"]


def test_blocks_of_ones_own_keep_their_normalization(tmp_path):
    student, teacher = tiny_net(seed=2), tiny_net(seed=1)
    run = distill(tmp_path / "run", student, teacher=teacher, at=None)
    assert type(run.student) is nn.ModuleDict
    described = json.loads((tmp_path / "run" / "student" / "network.json").read_text())
    assert (described["mean"], described["std"]) == ([0.5] * 3, [0.25] * 3)


def test_float_images_are_taken_as_they_are(tmp_path):
    train = [(image / 100.0 - 1, label) for image, label in pictures(24, 0)]
    distill(tmp_path / "run", train=train)
    described = json.loads((tmp_path / "run" / "student" / "network.json").read_text())
    assert (described["mean"], described["std"]) == ([0.0] * 3, [1.0] * 3)
    with pytest.raises(skd.UserError, match="mean, std: are those of uint8 images"):
        distill(None, train=train, mean=[0.5] * 3)


def test_steps_are_exact(tmp_path):
    run = distill(tmp_path / "run", steps=5)  # 22 images, 2 steps an epoch
    assert {(stage["steps"], stage["epochs"]) for stage in run.result["stages"]} == {(5, 3)}


def test_without_labels_the_head_is_kept_and_agreement_is_the_figure(tmp_path):
    teacher = Net(seed=1)
    run = distill(tmp_path / "run", teacher=teacher, train=pictures(24, 0, labelled=False))
    assert [stage["name"] for stage in run.result["stages"]] == PLACES
    assert set(run.result["stages"][0]["graft"]) == {"agreement"}
    assert run.result["metric"] == "agreement"
    assert set(run.result["student_metrics"]) == {"agreement"}
    assert run.result["teacher_metrics"] == {"agreement": 1.0}
    assert run.student.head.weight.equal(teacher.head.weight)


def test_further_images_teach_all_but_labels(tmp_path):
    runs = [
        distill(tmp_path / str(labelled), unlabelled=pictures(16, 9, labelled))
        for labelled in (False, True)
    ]
    one, other = runs
    seen = {stage["name"]: stage["images_seen"] for stage in one.result["stages"]}
    assert seen == {"a": 64, "b": 64, "head": 64}  # 4 steps of 8 of 22 + 16, twice
    assert one.result["images"] == 22
    assert same(bits(one.student), bits(other.student))  # their labels are not looked at
    kept = distill(tmp_path / "labels", unlabelled=pictures(16, 9), head_kd="none")
    assert kept.result["stages"][-1]["images_seen"] == 32
    assert not same(bits(kept.student), bits(one.student))


@pytest.mark.parametrize("options", [{"method": "hinton"}, {"finetune_epochs": 1}])
def test_softened_logits_need_no_labels(tmp_path, options):
    run = distill(tmp_path / "run", train=pictures(24, 0, labelled=False), **options)
    last = run.result["stages"][-1]
    assert last["name"] in ("hinton", "finetune")
    assert last["best"]["monitor"] == "loss"
    assert not run.student.head.weight.equal(Net(seed=1).head.weight)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "hinton", "label_weight": 0.1}, "stage 'hinton' learns from labels, and there"),
        ({"head": "labels"}, "stage 'head' learns from labels, and there are none, only images"),
        ({"teacher": None}, "method 'stagewise' needs a teacher"),
        ({"at": ["a", "c"]}, "student: at: Net has no module c"),
        ({"match": [("a", "z")]}, "the teacher has no feature 'z'"),
        ({"epochs": 0}, "epochs=0: give a whole number from 1 up"),
        ({"steps": 1.5}, "steps=1.5: give a whole number"),
        ({"lr": 0}, "lr=0: give a number above 0"),
        ({"mean": [0.5]}, "give one number for each of 3 channels"),
        ({"trainer": {"max_epochs": 3}}, "trainer.max_epochs: the run sets it itself"),
        ({"trainer": "gpu"}, "trainer: a str; give options of lightning.Trainer as a dict"),
        ({"trainer": {"devices": 2, "accelerator": "cpu"}}, "with out=DIR"),
        ({"unlabelled": pictures(4, 1)}, "unlabelled: train has no labels either; give all"),
        ({"unlabelled": [torch.zeros(3, 9, 9)]}, "images that are not alike"),
        ({"nonsense": 1}, "has no option nonsense; it has epochs, match"),
    ],
)
def test_bad_input_leaves_nothing_behind(tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    settings = {"train": pictures(24, 0, labelled=False)} | options
    out = None if "devices" in str(options) else tmp_path / "run"
    with pytest.raises(skd.UserError) as error:
        distill(out, **settings)
    assert words in str(error.value)
    assert not [*tmp_path.iterdir()]


class TestLoad:
    def test_a_network_that_is_known_needs_nothing(self, tmp_path):
        torch.manual_seed(0)
        nets = resnet18(num_classes=3), resnet18(num_classes=3)
        run = distill(tmp_path / "run", nets[0], teacher=nets[1], at=None, epochs=1)
        assert run.result["student"] == "resnet18"
        card = (tmp_path / "run" / "student" / "README.md").read_text()
        assert "model = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=3)" in card
        model = skd.load(tmp_path / "run")
        assert type(model) is type(nets[0])
        assert not model.training
        assert same(bits(model), bits(run.student))
        image = torch.rand(2, 3, 32, 32)
        with torch.inference_mode():
            assert model(image).equal(run.student(image))

    def test_ones_own_needs_the_code_that_builds_it(self, tmp_path):
        run = distill(tmp_path / "run")
        with pytest.raises(skd.UserError, match=r"holds a Net, which only your own code can build"):
            skd.load(tmp_path / "run")
        model = skd.load(tmp_path / "run", factory=Net)
        assert same(bits(model), bits(run.student))
        with pytest.raises(skd.UserError, match="does not fit Linear"):
            skd.load(tmp_path / "run", factory=lambda: nn.Linear(2, 2))

    def test_nothing_but_our_functions_is_called(self, tmp_path):
        distill(tmp_path / "run")
        file = tmp_path / "run" / "student" / "network.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"build": "os.system"}))
        with pytest.raises(skd.UserError, match=r"only functions in stagewise_kd\.networks are"):
            skd.load(tmp_path / "run")


def test_masks(tmp_path):
    class Dense(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            torch.manual_seed(seed)
            self.a, self.b, self.head = (
                nn.Conv2d(i, o, 3, 1, 1) for i, o in ((3, 4), (4, 4), (4, 3))
            )

        def forward(self, x):
            return self.head(torch.relu(self.b(torch.relu(self.a(x)))))

    train = [(image, image[0] % 3) for image, _ in pictures(20, 0)]
    train[0][1][:2] = 255  # void
    options = {"at": PLACES, "epochs": 1, "batch_size": 4, "trainer": TRAINER}
    run = seg_kd.distill(Dense(0), Dense(1), train, out=tmp_path / "run", **options)
    assert {"miou", "agreement", "iou/2"} <= set(run.result["student_metrics"])
    more = [image for image, _ in pictures(8, 1)]
    run = seg_kd.distill(Dense(0), Dense(1), train, unlabelled=more, method="hinton", **options)
    assert run.result["stages"][0]["images_seen"] == 24  # 18 + 8 in whole batches
    train = [(image, torch.full_like(mask, 255)) for image, mask in train]
    with pytest.raises(skd.UserError, match="train and val: no pixel has a label, all are void"):
        seg_kd.distill(Dense(0), Dense(1), train, **options)


class TestCommandLines:
    """On run folders that were made from Python."""

    @pytest.fixture
    def run(self, tmp_path) -> Path:
        torch.manual_seed(0)
        nets = resnet18(num_classes=3), resnet18(num_classes=3)
        distill(tmp_path / "run", nets[0], teacher=nets[1], at=None, epochs=1)
        return tmp_path / "run"

    def say(self, capsys, *argv: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            cls_main([str(word) for word in argv])
        return caught.value.code, capsys.readouterr().err

    def test_compare_status_and_predict(self, run, capsys, tmp_path):
        assert self.say(capsys, "compare", run, "--out", tmp_path / "report")[0] == 0
        assert "resnet18" in (tmp_path / "report" / "table.md").read_text()
        assert self.say(capsys, "status", run)[0] == 0
        Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
        seen = tmp_path / "seen"
        assert self.say(capsys, "predict", run, tmp_path / "a.png", "--out", seen)[0] == 0
        assert (seen / "predictions.csv").read_text().splitlines()[1].count(",") == 6

    def test_evaluate_has_no_data(self, run, capsys):
        status, said = self.say(capsys, "evaluate", run)
        assert status == 2
        assert "was run from Python, which alone has its data; score it there" in said

    def test_masks(self, tmp_path, capsys):
        torch.manual_seed(0)
        nets = [smp.Unet("resnet18", encoder_weights=None, classes=3) for _ in range(2)]
        train = [
            (torch.randint(0, 256, (3, 32, 32)).to(torch.uint8), torch.randint(3, (32, 32)))
        ] * 6
        seg_kd.distill(
            *nets, train, out=tmp_path / "run", epochs=1, head="teacher", trainer=TRAINER
        )
        Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
        for argv in (
            ["compare", tmp_path / "run", "--out", tmp_path / "report"],
            ["predict", tmp_path / "run", tmp_path / "a.png", "--out", tmp_path / "seen"],
        ):
            with pytest.raises(SystemExit) as caught:
                seg_main([str(word) for word in argv])
            assert caught.value.code == 0
        with Image.open(tmp_path / "seen" / "a.png") as mask:
            assert mask.size == (40, 30)


class Dropping(Net):
    """Draws in training."""

    def forward(self, x):
        return self.head(self.b(torch.dropout(self.a(x), 0.3, self.training)).mean((2, 3)))


@pytest.mark.parametrize("schedule", ["sequential", "concurrent"])
def test_resumed_with_dropout_equals_straight(tmp_path, monkeypatch, schedule):
    options = {"schedule": schedule, "fed": "teacher", "finetune_epochs": 3, "epochs": 3}
    monkeypatch.setattr("stagewise_kd.training.recorder.TRAINING_PER_SAVING", 0)
    straight = distill(tmp_path / "straight", Dropping(seed=2), **options)
    epochs = iter(range(100))

    def stop(recorder, trainer) -> None:
        save(recorder, trainer)
        if next(epochs) == 4:
            raise KeyboardInterrupt

    save = Recorder._save
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Recorder, "_save", stop)
        distill(tmp_path / "run", Dropping(seed=2), **options)
    run = distill(tmp_path / "run", Dropping(seed=2), **options)
    assert same(bits(run.student), bits(straight.student))
    tables = [(tmp_path / name / "metrics.csv").read_text() for name in ("straight", "run")]
    assert tables[0] == tables[1]


def test_the_student_that_is_returned_can_be_trained_on(tmp_path):
    run = distill(tmp_path / "run")
    assert all(parameter.requires_grad for parameter in run.student.parameters())


def test_a_module_of_two_names_is_kept_under_both(tmp_path):
    class Aliased(Net):
        def __init__(self, seed: int) -> None:
            super().__init__(seed=seed)
            self.again = self.a[0]

    run = distill(tmp_path / "run", Aliased(2), teacher=Aliased(1))
    kept = load_file(tmp_path / "run" / "student" / "model.safetensors")
    assert kept["again.weight"].equal(kept["a.0.weight"])
    assert kept["a.0.weight"].equal(run.student.again.weight)


def test_a_buffer_that_no_state_dict_holds(tmp_path):
    class Reordering(Net):
        def __init__(self, seed: int = 0) -> None:
            super().__init__(seed=seed)
            self.b.register_buffer("order", torch.arange(8).flip(0), persistent=False)

        def forward(self, x):
            return self.head(self.b(self.a(x))[:, self.b.order].mean((2, 3)))

    run = distill(tmp_path / "run", Reordering(2), teacher=Reordering(1))
    assert not same(bits(run.student.b), bits(Reordering(2).b))
    again = skd.load(tmp_path / "run", factory=Reordering)
    x = torch.rand(2, 3, 8, 8)
    assert again(x).equal(run.student(x))


def gentle(weight: float):
    def loss(student, teacher):
        return weight * mse(student, teacher)

    return loss


def test_an_option_that_is_a_function_is_told_by_its_name_and_code(tmp_path):
    def plan(task, student, teacher, *, epochs, loss):
        return skd.Stage("a", ("a",), (skd.Term("a", loss, "a", "a"),), epochs, LOSS)

    distill(tmp_path / "run", method=plan, loss=mse)
    distill(tmp_path / "run", method=plan, loss=mse)  # finished
    with pytest.raises(skd.UserError, match=r"was loss: .*mse"):
        distill(tmp_path / "run", method=plan, loss=gentle(2.0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train": [(i, n % 3 + 1) for i, n in pictures(24, 0)]}, "label 3: the networks know 3"),
        ({"train": [(i, -1) for i, _ in pictures(24, 0)]}, "label -1: the networks know 3 classes"),
        ({"train": [(i, n / 3) for i, n in pictures(24, 0)]}, "expected a class index"),
        ({"train": [(i, "cat") for i, _ in pictures(24, 0)]}, "samples that make no batch"),
        ({"train": [(i, None) for i, _ in pictures(24, 0)]}, "samples that make no batch"),
        ({"val": [(i / 255, n) for i, n in pictures(9, 0)]}, "images that are not alike: train"),
        ({"teacher": resnet18(num_classes=5), "at": None, "method": "hinton"}, "teacher 5; build"),
        ({"teacher": Net}, "teacher: a type; expected a network"),
        ({"at": "a"}, "at='a': give a list of names"),
        ({"at": ["head"]}, "have no features to match, only a head"),
        ({"seed": -1}, "seed=-1: give a whole number from 0 up"),
        ({"lr": "fast"}, "lr=fast: give a number above 0"),
        ({"std": [0, 1, 1]}, "std above 0"),
        ({"method": None}, "method=None: give a name or a function"),
        ({"method": lambda *a, epochs: 3}, "the method gave a int; expected a tuple of stages"),
        (
            {"train": DataLoader(pictures(24, 0), 8, sampler=SubsetRandomSampler(range(9)))},
            "Subset",
        ),
        ({"train": torch.rand(20, 4, 4)}, "a sample is a tensor (4, 4); expected an image"),
    ],
)
def test_more_bad_input_is_found_before_anything_is_trained(tmp_path, options, words):
    with pytest.raises(skd.UserError) as error:
        distill(tmp_path / "run", **options)
    assert words in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_loader_of_whole_batches_validates_on_its_own_samples(tmp_path):
    val = DataLoader(pictures(5, 3), batch_size=8, drop_last=True)  # of length 0
    run = distill(tmp_path / "run", val=val)
    assert run.result["images"] == 24
    assert (tmp_path / "run" / "splits" / "val.txt").read_text().split() == list("01234")


def test_grey_images_are_no_input_of_a_network_of_three_channels():
    grey = [(torch.zeros(1, 32, 32, dtype=torch.uint8), number % 2) for number in range(8)]
    with pytest.raises(skd.UserError, match=r"\(1, 32, 32\).* grey images as image\.expand\(3"):
        cls_kd.distill(*(resnet18(num_classes=2) for _ in range(2)), grey)


def test_a_network_that_is_not_quite_the_known_one_is_not_rebuilt_as_that(tmp_path):
    torch.manual_seed(0)
    nets = resnet18(num_classes=3), resnet18(num_classes=3)
    nets[0].maxpool = nn.Identity()
    distill(tmp_path / "run", nets[0], teacher=nets[1], method="hinton", at=None, epochs=1)
    with pytest.raises(skd.UserError, match="holds a ResNet, which only your own code can build"):
        skd.load(tmp_path / "run")


def test_the_head_of_a_wider_teacher_is_kept_behind_a_convolution_that_stays():
    run = distill(None, Net(4), teacher=Net(6), head="teacher", epochs=1)
    assert [stage["name"] for stage in run.result["stages"]] == ["a", "adapter"]
    weights = run.student.state_dict()
    assert weights["adapter.weight"].shape == (12, 8, 1, 1)
    assert weights["head.head.weight"].equal(Net(6).head.weight)
    extra = sum(p.numel() for p in Net(4).parameters()) - (8 * 3 + 3) + (12 * 8 + 12) + (12 * 3 + 3)
    assert run.result["cost"]["student"]["params"] == extra

"""Cards tell what the run's files tell, and their snippets open the student."""

import json
import re
import subprocess
import sys

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file

import stagewise_kd as skd
from stagewise_kd.export.card import card, write_card
from stagewise_kd.networks.libraries import library_net
from stagewise_kd.networks.resnet import resnet
from stagewise_kd.networks.segmenters import segmenter
from stagewise_kd.networks.shrunk import apply, cut_again, shrunk_origin
from stagewise_kd.runs.student import save_student
from tests.conftest import TIMM_OPENS_FOLDERS, tiny_net
from tests.fake_runs import COST, segmentation, write_run
from tests.stagewise_kd.runs.test_student import photo, saved, turned

ABROAD = """
import json, os, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("stagewise_kd", "cls_kd", "seg_kd"):
            raise ImportError(name)

sys.meta_path.insert(0, Absent())
import torch
from safetensors.torch import save_file

torch.set_num_threads(1)
found = {}
for name, (folder, code) in json.load(sys.stdin).items():
    os.chdir(folder)
    own = {}
    exec(code, own)
    found[name] = own["logits"].contiguous()
save_file(found, sys.argv[1])
"""
CLASSIFIERS = {
    "ours": (lambda: resnet("resnet10", 2), 112),
    "linear": (lambda: resnet("resnet14", 2, "linear"), [32, 48]),
    "timm": (lambda: library_net("timm/test_efficientnet", 2, (64, 64)), 64),
    "torchvision": (lambda: library_net("torchvision/mobilenet_v3_small", 2, (64, 64)), 64),
}
SEGMENTERS = {
    "smp": (lambda: segmenter("unet", "resnet10", 2), None),
    "smp class": (lambda: segmenter("unet", "resnet14", 1, convolutions=[1, 2, 1, 1, 2]), [40, 64]),
}


def python(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def check_whole(text: str) -> None:
    """No heading without content, no figure that is not there."""
    words = re.sub(r"```.*?```", "code", text, flags=re.DOTALL)
    assert not re.search(r"^#+ .*\n\s*(#|\Z)", words, re.MULTILINE)
    assert not re.search(r"\bNone\b|\bnan\b|Undefined|\( ?\)|, ?\.|\n- ?\n|\n{3}", words)


def test_every_snippet_gives_the_logits_of_predict_without_our_packages(tmp_path):
    told, expected = {}, {}
    for task, nets in (("classification", CLASSIFIERS), ("segmentation", SEGMENTERS)):
        for name, (build, size) in nets.items():
            run = saved(tmp_path / name, build(), task, size)
            write_card(run, {"student": name})
            text = (run / "student" / "README.md").read_text()
            check_whole(text)
            ours, *others = python(text)
            assert ours.startswith("import stagewise_kd\n")
            if name == "timm" and not TIMM_OPENS_FOLDERS:
                continue
            told[name] = [str(run / "student"), "\n".join(others)]
            file = photo(run / "student" / "photo.jpg", size=(250, 150), exif=turned(), quality=95)
            model, preprocess = skd.load(run, with_preprocess=True)
            with torch.inference_mode():
                expected[name] = model(preprocess(Image.open(file))[None])
    found = abroad(told, tmp_path / "logits.safetensors")
    assert found["smp"].shape[2:] == (250, 150) and found["smp class"].shape[1:] == (1, 40, 64)
    for name, logits in expected.items():
        seen = tuple(slice(side) for side in found[name].shape)  # without padding
        assert torch.allclose(found[name], logits[seen], rtol=0, atol=1e-5), name


def abroad(told: dict, out) -> dict:
    """The logits of snippets, in a process that cannot import us."""
    given = [sys.executable, "-I", "-c", ABROAD, str(out)]
    done = subprocess.run(given, input=json.dumps(told), text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return load_file(out)


def test_a_network_that_no_library_builds_says_so(tmp_path):
    net = resnet("resnet10", 2)
    recipe = [["layer4.0", {"conv1": [256, 64], "bn1": [64, 64], "conv2": [64, 512]}]]
    origin = shrunk_origin(net.origin, recipe, net.model, (3, 32, 32))
    small = cut_again(apply(net.model, recipe), net, (3, 32, 32), origin)
    run = saved(tmp_path / "run", small, "classification", 32)
    write_card(run, {"student": "mine"})
    text = (run / "student" / "README.md").read_text()
    assert "No other library builds this network" in text
    assert len(python(text)) == 1
    check_whole(text)


def test_a_card_holds_the_figures_of_the_result(tmp_path):
    told = segmentation(0.7, road=0.8125, **{"tree|bush": 0.6}) | {"images": 12, "val_images": 3}
    run = write_run(tmp_path / "run", **told)
    described = {"task": "segmentation", "classes": ["road", "tree|bush"], "size": [40, 64]}
    save_student(run / "student", tiny_net(), described)
    write_card(run)
    path = run / "student" / "README.md"
    text = path.read_text()
    for line in (
        "| miou | 0.7000 | 0.8000 |",
        "| road | 0.8125 | 0.8125 |",
        "| tree\\|bush | 0.6000 | 0.6000 |",
        "| parameters | 5 M | 21 M |",
        "| multiply-adds | 20 M | 80 M |",
        "| latency, ms | 1.5 | 6 |",
        "- images seen: 6,000, in 100 seconds",
        "the student of a resnet34: 25.0% of the multiply-adds and 23.8% of the parameters.",
        "- 40 × 64 pixels, height × width",
        "less the mean [0.5, 0.5, 0.5], divided by the standard deviation [0.25, 0.25, 0.25]",
        "0 road, 1 tree\\|bush.",
        'stagewise_kd.load(".", factory=ModuleDict, with_preprocess=True)',
    ):
        assert line in text, line
    assert "Latency of what is shipped" not in text
    check_whole(text)
    found = ModelCard.load(path).data
    assert found.pipeline_tag == "image-segmentation" and found.datasets == ["camvid"]
    measured = {result.metric_type: result.metric_value for result in found.eval_results}
    assert measured == {"miou": 0.7, "dice": 0.7, "pixel_accuracy": 0.9, "miou_paper": 0.7}


def test_a_card_tells_the_latency_of_what_is_shipped(tmp_path):
    rows = [
        {"network": "student", "runtime": "ONNX Runtime, int8", "batch": 16, "median_ms": 1.23456},
        {"network": "teacher", "runtime": "torch", "batch": 1, "threads": 2},
    ]
    run = write_run(tmp_path / "run", cost=COST | {"shipped": {"latency": rows}})
    save_student(run / "student", tiny_net(), {"task": "classification", "size": 8})
    write_card(run)
    text = (run / "student" / "README.md").read_text()
    assert "| network | runtime | batch | median ms | threads |" in text
    assert "| student | ONNX Runtime, int8 | 16 | 1.23 |  |" in text
    assert "| teacher | torch | 1 |  | 2 |" in text
    check_whole(text)


def test_what_is_not_known_leaves_no_trace(tmp_path):
    described = {"build": None, "network": {"class": "Net"}, "mean": [0.0] * 5, "std": [1.0] * 5}
    for result in (
        {},
        {"dataset": "a|b: c", "teacher": None, "teacher_metrics": None, "protocol": "val"},
        {"student_metrics": {"accuracy": float("nan")}, "cost": {}, "metric": "accuracy"},
    ):
        text = card(described | {"images": "prepared"}, result, {})
        check_whole(text)
        assert "## Scores" not in text or "student_metrics" in result
        assert "preprocess" not in text
        (tmp_path / "README.md").write_text(text)
        ModelCard.load(tmp_path / "README.md")


def test_there_is_no_card_of_an_unfinished_run(tmp_path):
    with pytest.raises(skd.UserError, match="holds no finished student"):
        write_card(tmp_path)
    assert not [*tmp_path.iterdir()]

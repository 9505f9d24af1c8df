import pytest

from stagewise_kd.runs.composing import composing
from stagewise_kd.runs.overrides import as_typed
from stagewise_kd.runs.study import plan_study

NETWORKS = [
    "timm/resnet50.a1_in1k",
    "torchvision/resnet18",
    "nets.mine:small",
    "smp/tu-convnext_atto",
]


@pytest.mark.parametrize("front_end", ["cls", "seg"])
def test_any_network_is_a_choice_of_student_and_teacher(front_end):
    with composing(front_end) as compose:
        for name in NETWORKS:
            options = ["student.arguments.depth=6", "teacher.epochs=3"]
            cfg = compose([f"student={name}", f"teacher={name}", *map(as_typed, options)])
            assert cfg.student.name == cfg.teacher.name == name
            assert cfg.student.arguments == {"depth": 6} and cfg.teacher.arguments == {}
            assert cfg.teacher.epochs == 3


def test_networks_are_values_of_a_sweep_and_safe_names_of_folders():
    study = plan_study(
        "cls", ["student=resnet10,timm/test_vit", "teacher=a.b:c,torchvision/resnet18"]
    )
    assert [*study.names.values()] == [
        f"shapes-1.00/{student}-stagewise-s0-teacher{teacher}"
        for student in ("resnet10", "timm_test_vit")
        for teacher in ("a.b_c", "torchvision_resnet18")
    ]

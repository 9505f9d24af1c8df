from torch import nn

from cls_kd.task import Classification
from stagewise_kd.methods.checks import check_plan
from stagewise_kd.methods.outline import brief
from stagewise_kd.methods.stagewise import stagewise
from stagewise_kd.networks.blocks import Block, BlockNet
from stagewise_kd.networks.resnet import resnet
from stagewise_kd.runs.blocks import blocks_table

SHAPE = (3, 32, 32)


def measured(name: str) -> BlockNet:
    net = resnet(name, 10)
    net.measure(SHAPE)
    return net


def test_blocks_stand_beside_what_they_learn_from():
    student, teacher = measured("resnet10"), measured("resnet50")
    plan = stagewise(
        Classification(10), student, teacher, epochs=1, match=[["layer2", "layer3"]], resize=True
    )
    table = blocks_table(plan, check_plan(plan, student, teacher, SHAPE), student, teacher)
    row = table.set_index("block").loc["layer2"]
    assert row["learns from"] == "← resized, 1×1 convolution"
    assert row["teacher's block"] == "layer3"
    assert row["shape"] == "128×4×4"
    assert row["teacher's shape"] == "1024×2×2"
    assert row["params"] == "230,144"
    assert table["block"][table["block"] != ""].tolist() == list(student.names)
    left = table["teacher's block"]
    assert left[left != ""].tolist() == list(teacher.names)
    assert table.set_index("block").loc["layer3"]["learns from"] == "trains in stage head"
    assert brief(plan) == [
        "the teacher's features: layer2 ← layer3; on labels: layer3, layer4, head"
    ]


def test_a_teacher_of_bottlenecks_for_every_published_student():
    teacher = measured("resnet50")
    for name in ("resnet10", "resnet14", "resnet18", "resnet20", "resnet26"):
        student = measured(name)
        plan = stagewise(Classification(10), student, teacher, epochs=1)
        stages = check_plan(plan, student, teacher, SHAPE).values()
        shapes = [tuple(one.weight.shape[:2]) for made in stages for one in made.values()]
        assert shapes == [(256, 64), (512, 128), (1024, 256), (2048, 512)]


def test_shares_of_a_table_add_up():
    net = measured("resnet10")
    plan = stagewise(Classification(10), net, measured("resnet10"), epochs=1)
    table = blocks_table(plan, check_plan(plan, net, net, SHAPE), net, net)
    shares = [float(cell.rstrip("%")) for cell in table["MACs"] if cell]
    assert abs(sum(shares) - 100) < 0.3
    params = sum(int(cell.replace(",", "")) for cell in table["params"] if cell)
    assert params == sum(p.numel() for p in net.model.parameters())
    assert table["modules"][0] == "conv1, bn1"


def test_a_block_that_the_teacher_has_no_resolution_for():
    class Pooled(nn.Module):
        def forward(self, x):
            return x[..., ::2, ::2]

    student, teacher = measured("resnet10"), resnet("resnet10", 10)
    teacher.blocks["layer1"] = Block("layer1", Pooled(), ("stem",))
    teacher.blocks["stem"] = Block(
        "stem", nn.Sequential(teacher.blocks["stem"].module, Pooled()), ("image",)
    )
    teacher.measure(SHAPE)
    plan = stagewise(Classification(10), student, teacher, epochs=1)
    table = blocks_table(plan, check_plan(plan, student, teacher, SHAPE), student, teacher)
    told = table.set_index("block")["learns from"]["stem"]
    assert told == "trains in stage layer1; the teacher has nothing of 16×16"

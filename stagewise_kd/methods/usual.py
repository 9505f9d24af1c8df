"""What options of methods are where nobody has said: it depends on which images have labels."""

from typing import Any

LABEL_WEIGHT = 0.1  # of softened logits and labels together (Hinton et al. 2015)


def usual_options(options: dict[str, Any], labelled: bool, more: bool = False) -> dict[str, Any]:
    """Values of those options that are left open.

    Args:
        options: of a method, None where they are open.
        labelled: whether there are labels to learn from.
        more: whether there are further images without. What learns from logits learns from those
            too, where labels alone would teach a good start less than it forgets.
    """
    usual: dict[str, Any] = {
        "head": "labels" if labelled else "teacher",
        "label_weight": LABEL_WEIGHT if labelled else 0.0,
        "labels": labelled,
    }
    if options.get("finetune_epochs"):
        usual["finetune"] = "both" if labelled else "logits"
    if labelled and more and options.get("head") != "teacher":
        usual["head_kd"] = "hinton"
    return {name: value for name, value in usual.items() if options.get(name) is None}

"""What a distillation method tells of itself, and where it is found by its name.

A method is a function `(task, student, teacher, *, epochs, **options) -> Plan` in a module of this
package that bears its name: `stagewise_kd.methods.hinton.hinton`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from inspect import signature
from pkgutil import iter_modules
from typing import Any, TypeVar

from stagewise_kd.methods.plan import Plan
from stagewise_kd.methods.usual import usual_options
from stagewise_kd.system.errors import UserError

Method = Callable[..., Plan]
Function = TypeVar("Function", bound=Method)


@dataclass(frozen=True)
class About:
    """What a method tells of itself.

    Args:
        needs_teacher: whether any term is against the teacher.
        reference: whether a comparison holds the others against it; `budget=matched` gives those
            its epochs.
        keeps_head: whether the student always ends with the teacher's head.

    Which shapes must agree, the terms of its plan tell: see `Term.adapter`.
    """

    needs_teacher: bool = True
    reference: bool = False
    keeps_head: bool = False


def describes(**told: bool) -> Callable[[Function], Function]:
    """Let a method tell something of itself: see `About`."""

    def describe(function: Function) -> Function:
        function.about = About(**told)  # type: ignore[attr-defined]
        return function

    return describe


def about(method: Method) -> About:
    """What a method tells of itself; one that tells nothing needs a teacher, and has stages."""
    told: About = getattr(plain(method), "about", About())
    return told


def plain(method: Method) -> Method:
    """The function itself, of one some of whose options are set."""
    while isinstance(method, partial):
        method = method.func
    return method


def takes(method: Method, option: str) -> bool:
    """Whether a method has an option of this name."""
    parameters = signature(method).parameters
    return option in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def chosen_method(
    method: str | Method,
    options: dict[str, Any],
    taught: bool,
    labelled: bool,
    more: bool = False,
) -> tuple[Method, dict[str, Any]]:
    """A method and its options, held against what there is.

    Args:
        method: a name, or the function.
        options: that the caller has given.
        taught: whether there is a teacher.
        labelled: whether there are labels; without, a head that can be the teacher's is.
        more: whether there are images without labels beside.

    Returns:
        The function, and the options with defaults as those of the command lines.

    Raises:
        UserError: the method is unknown, has no such option, or needs a teacher.
    """
    if not isinstance(method, str) and not callable(method):
        raise UserError(f"method={method!r}: give a name or a function that gives a plan")
    found = find_method(method) if isinstance(method, str) else method
    name = plain(found).__name__
    if about(found).needs_teacher and not taught:
        raise UserError(f"method {name!r} needs a teacher; give one, or method='no_teacher'")
    if wrong := [option for option in options if not takes(found, option)]:
        known = [p.name for p in signature(found).parameters.values() if p.kind is p.KEYWORD_ONLY]
        raise UserError(
            f"method {name!r} has no option {', '.join(wrong)}; it has {', '.join(known)}"
        )
    usual = {"schedule": "concurrent"} | options | usual_options(options, labelled, more)
    return found, {name: value for name, value in usual.items() if takes(found, name)}


def find_method(name: str) -> Method:
    """The method of a name.

    Raises:
        UserError: there is none.
    """
    if name not in method_names():
        raise UserError(
            f"method={name!r}: there are {', '.join(method_names())}; or give a function "
            "(task, student, teacher, *, epochs) that returns a plan"
        )
    found: Method = getattr(import_module(f"{__package__}.{name}"), name)
    return found


def method_names() -> list[str]:
    """Names of all methods: of the modules here that define a function of their own name."""
    modules: list[Any] = [
        import_module(f"{__package__}.{info.name}")
        for info in iter_modules(import_module(__package__).__path__)
    ]
    names = [module.__name__.rsplit(".", 1)[-1] for module in modules]
    return [
        name
        for name, module in zip(names, modules, strict=True)
        if hasattr(getattr(module, name, None), "about")
    ]

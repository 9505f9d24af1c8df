"""What follows a network through torch.fx, and what it finds out on the way."""

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.models.feature_extraction import NodePathTracer

from stagewise_kd.networks.modes import modes_kept

IS_OF: Any = torch.jit.isinstance
CALLED, ASKED = nn.Module.__call__, nn.Module.__getattr__  # torch.fx replaces them while it traces


class Skip(nn.Module):
    """In place of a block that is left out: gives what it takes, whatever else it is told."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Features as they are."""
        return x


class Tracer(NodePathTracer):  # type: ignore[misc]
    """Leaves modules of some names and classes as they are, and what timm says of its own.

    What a network decides by the shapes of its features it decides as for an example.
    """

    def __init__(self, leaves: Collection[str | type[nn.Module]], example: Tensor | None) -> None:
        functions, modules = _not_traced()
        modules += [leaf for leaf in leaves if not isinstance(leaf, str)]
        super().__init__(  # type: ignore[no-untyped-call]
            autowrap_functions=functions, leaf_modules=modules
        )
        self._leaves, self._example = leaves, example
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._values: dict[int | None, dict[fx.Node, Any]] = {}  # so far, by how many images

    def is_leaf_module(self, m: nn.Module, module_qualname: str) -> bool:
        """Whether a module is one node of the trace."""
        return module_qualname in self._leaves or super().is_leaf_module(m, module_qualname)

    def create_args_for_root(self, root_fn: Any, *options: Any) -> tuple[Any, list[Any]]:
        """The network and its images; whatever else it may be told stays as by default."""
        function, args = super().create_args_for_root(root_fn, *options)
        for other in args[2:]:
            self.graph.erase_node(other.node)
        return (root_fn, args[:2]) if args[2:] else (function, args)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Whether something holds that no tensor is compared for."""
        value = self.value(obj)
        return bool(value if isinstance(value, bool | int) else super().to_bool(obj))

    def iter(self, obj: Any) -> Iterator[Any]:
        """The parts of a shape."""
        value = self.value(obj)
        if not isinstance(value, tuple | list):
            return super().iter(obj)  # type: ignore[no-any-return]
        return iter([obj[place] for place in range(len(value))])

    def number(self, obj: fx.Proxy) -> int | float:
        """A number that comes of sides of features, not of how many images there are."""
        if self._example is not None:
            few, more = (self.value(obj, count) for count in (2, 3))
            if isinstance(few, int | float) and few == more:
                return few
        raise TypeError(f"{obj} is known only when the network runs")

    def length(self, obj: fx.Proxy) -> int:
        """The number of parts of a shape."""
        value = self.value(obj)
        if not isinstance(value, tuple | list):
            raise TypeError(f"the length of {obj} is known only when the network runs")
        return len(value)

    def value(self, obj: fx.Proxy, count: int | None = None) -> Any:
        """What a value is for the example, or for so many images; of a tensor its shape alone."""
        if self._example is None:
            return None
        node, fork = obj.node, torch.random.fork_rng(devices=[])
        images = self._example if count is None else self._example[:1].expand(count, -1, -1, -1)
        with _as_ever(), modes_kept(self.root), torch.no_grad(), fork:
            self.root.eval()
            with suppress(Exception), self._fake:  # not every operation tells shapes alone
                self._go_on(self._values.setdefault(count, {}), self._fake.from_tensor(images))
                return self._values[count][node]
            graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
            graph.graph_copy(self.graph, copies)
            graph.output(copies[node])
            whole = fx.GraphModule(self.root, graph)
            whole.graph.eliminate_dead_code()
            return fx.Interpreter(whole).run(images)

    def _go_on(self, values: dict[fx.Node, Any], images: Tensor) -> None:
        """Run the nodes that are new."""
        runner = fx.Interpreter(self.root, garbage_collect_values=False, graph=self.graph)
        runner.env = values
        for node in self.graph.nodes:
            if node not in values:
                values[node] = images if node.op == "placeholder" else runner.run_node(node)


@contextmanager
def _as_ever() -> Iterator[None]:
    """Modules are called, not traced, in the middle of a trace."""
    traced = nn.Module.__call__, nn.Module.__getattr__
    nn.Module.__call__, nn.Module.__getattr__ = CALLED, ASKED  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__call__, nn.Module.__getattr__ = traced  # type: ignore[method-assign]


@contextmanager
def answering() -> Iterator[None]:
    """Values have a length, are numbers and of a type, which torch.fx does not know of."""
    asked: dict[tuple[Any, str], Callable[..., Any]] = {
        (fx.Proxy, "__len__"): lambda proxy: proxy.tracer.length(proxy),
        (fx.Proxy, "__index__"): lambda proxy: proxy.tracer.number(proxy),
        (fx.Proxy, "__int__"): lambda proxy: int(proxy.tracer.number(proxy)),
        (fx.Proxy, "__float__"): lambda proxy: float(proxy.tracer.number(proxy)),
        (torch.jit, "isinstance"): _is_of,
    }
    before = {(owner, name): vars(owner).get(name) for owner, name in asked}
    try:
        for (owner, name), answer in asked.items():
            setattr(owner, name, answer)
        yield
    finally:
        for (owner, name), earlier in before.items():
            if earlier is None:
                delattr(owner, name)
            else:
                setattr(owner, name, earlier)


def _is_of(value: Any, kind: Any) -> bool:
    """What torch.jit.isinstance says of a value, as MONAI's networks ask it of their skips."""
    tracer: Any = getattr(value, "tracer", None) if isinstance(value, fx.Proxy) else None
    return bool(IS_OF(tracer.value(value) if tracer else value, kind))


@contextmanager
def forgetting(model: nn.Module) -> Iterator[None]:
    """Modules that note something while they run, such as a window's size, note none of a trace."""
    before = {module: dict(vars(module)) for module in model.modules()}
    try:
        yield
    finally:
        for module, values in before.items():
            noted = [name for name, value in vars(module).items() if _is_traced(value)]
            for name in noted:
                vars(module).pop(name)
                vars(module).update({name: values[name]} if name in values else {})


def _is_traced(value: Any) -> bool:
    parts = value if isinstance(value, tuple | list) else ()
    return isinstance(value, fx.Proxy) or any(map(_is_traced, parts))


def _not_traced() -> tuple[tuple[Any, ...], list[type[nn.Module]]]:
    """What timm says of its own functions and modules; who has such a network has imported it."""
    if "timm" not in sys.modules:
        return (), [Skip]
    from timm.models import _features_fx as own

    known: Any = own
    return tuple(known.get_notrace_functions()), [*known.get_notrace_modules(), Skip]

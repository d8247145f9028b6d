"""The public surface as text: every name of every ``__all__``, with its signature as the source has it.

After a change that is meant, renew the file that the test compares with::

    python tests/packaging/public_surface.py
"""

import ast
import inspect
import textwrap
from importlib import import_module
from pathlib import Path
from types import ModuleType

import mtvision

FILE = Path(__file__).with_suffix(".txt")


def surface():
    """Return the lines, in an order that depends on names only."""
    package = Path(mtvision.__file__).parent
    files = [path for path in sorted(package.rglob("__init__.py")) if "__all__" in path.read_text(encoding="utf-8")]
    public = [import_module(".".join(["mtvision", *path.parent.relative_to(package).parts])) for path in files]
    return [
        line
        for module in public
        for name in sorted(module.__all__)
        for line in described(f"{module.__name__}.{name}", getattr(module, name))
    ]


def described(path, value):
    """Return a line for a name, and for a class one for each of its public members."""
    if isinstance(value, ModuleType):
        return [f"module {path}"]
    if inspect.isclass(value):
        return [f"class {path}", *(f"    {line}" for line in sorted(set(members(value))))]
    if inspect.isfunction(value):
        return [f"def {path}{signature(node_of(inspect.unwrap(value)))}"]
    return [f"{path}: {type(value).__name__}"]


def members(kind):
    """Yield the members of a class that it, or a base class of this package, defines."""
    seen = set()
    for base in kind.__mro__:
        if not base.__module__.startswith("mtvision"):
            continue
        for node in node_of(base).body:
            name = getattr(node, "name", None) or getattr(getattr(node, "target", None), "id", "_")
            if name in seen or (name.startswith("_") and name not in ("__init__", "__call__")):
                continue
            seen.add(name)
            yield from member(node, name)


def member(node, name):
    """Yield the line of a method, a property or a field; of other statements none."""
    if isinstance(node, ast.AnnAssign):
        default = f" = {ast.unparse(node.value)}" if node.value is not None else ""
        yield f"{name}: {ast.unparse(node.annotation)}{default}"
    elif isinstance(node, ast.FunctionDef):
        marks = [ast.unparse(mark) for mark in node.decorator_list]
        if any("property" in mark for mark in marks):
            yield f"{name}: {ast.unparse(node.returns)} (property)"
        else:
            yield "".join(f"@{mark} " for mark in marks) + f"{name}{signature(node)}"


def node_of(value):
    """Return the definition of a class or function in the source."""
    return ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]


def signature(node):
    """Return the arguments and the result of a function as its source has them."""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    return f"({ast.unparse(node.args)}){returns}"


if __name__ == "__main__":
    FILE.write_text("\n".join(surface()) + "\n", encoding="utf-8")

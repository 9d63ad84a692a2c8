"""Turn a module of this package into one file that needs only third-party packages.

Every name that the module imports from `zaozi` is replaced by its definition, with what that needs in turn. Configuration
classes, which definitions use only in annotations, become `Any`; a registry becomes a dictionary of its components.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PACKAGE = "zaozi"
DROPPED = ("fit", "filled")
"""Methods that are left out: they are for training."""

Definition = ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign


@dataclass(frozen=True)
class Module:
    """A parsed module: its lines, definitions and imports, by name."""

    lines: list[str]
    body: list[ast.stmt]
    definitions: dict[str, Definition] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Maps each imported name to its module and its name there; the latter is '' for whole modules."""


@cache
def parsed(name: str) -> Module:
    """Parse a module of the package."""
    spec = importlib.util.find_spec(name)
    assert spec is not None, name
    assert spec.origin is not None, name
    text = Path(spec.origin).read_text(encoding="utf-8")
    made = Module(text.splitlines(), ast.parse(text).body)
    for node in made.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            made.definitions[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            made.definitions[node.targets[0].id] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            made.definitions[node.target.id] = node
        elif isinstance(node, ast.ImportFrom):
            made.imports.update({a.asname or a.name: (node.module or "", a.name) for a in node.names})
        elif isinstance(node, ast.Import):
            made.imports.update({a.asname or a.name: (a.name, "") for a in node.names})
    return made


def _kept(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a definition's parts without those that are left out."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.FunctionDef) and child.name in DROPPED):
            yield from _kept(child)


def _names(definition: Definition) -> tuple[set[str], set[str]]:
    """Return the names that a definition needs to run, and those in its annotations."""
    notes: list[ast.AST] = []
    local: set[str] = set()
    for node in _kept(definition):
        if isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation:
            notes.append(node.annotation)
        elif isinstance(node, ast.FunctionDef) and node.returns:
            notes.append(node.returns)
        if isinstance(node, ast.arg):
            local.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            local.add(node.id)
    noted = {id(part) for note in notes for part in ast.walk(note)}
    noted |= {id(part) for decorator in _registering(definition).values() for part in ast.walk(decorator)}
    needed = {n.id for n in _kept(definition) if isinstance(n, ast.Name) and id(n) not in noted}
    return needed - local, {part.id for note in notes for part in ast.walk(note) if isinstance(part, ast.Name)}


def _registering(definition: Definition) -> dict[str, ast.Call]:
    """Return the decorators of a component by their registry: `@samplers.register("ddim")`."""
    if not isinstance(definition, ast.FunctionDef):
        return {}
    found = {}
    for call in definition.decorator_list:
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "register":
            found[ast.unparse(call.func.value)] = call
    return found


def _source(module: Module, definition: Definition) -> str:
    """Return a definition's source, with its decorators or its docstring, and without the methods that are left out."""
    skipped = {call.lineno for call in _registering(definition).values()}
    for node in ast.walk(definition):
        if isinstance(node, ast.FunctionDef) and node.name in DROPPED:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            skipped |= set(range(first, (node.end_lineno or first) + 1))
    decorators = definition.decorator_list if isinstance(definition, (ast.ClassDef, ast.FunctionDef)) else []
    first, last = min([definition.lineno, *(d.lineno for d in decorators)]), definition.end_lineno or definition.lineno
    place = module.body.index(definition)
    after = module.body[place + 1] if place + 1 < len(module.body) else None
    if isinstance(definition, (ast.Assign, ast.AnnAssign)) and isinstance(after, ast.Expr):
        last = after.end_lineno or last  # its docstring
    text = "\n".join(module.lines[k - 1] for k in range(first, last + 1) if k not in skipped)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text.rstrip()


@dataclass
class _Bundle:
    parts: list[str] = field(default_factory=list)
    done: set[tuple[str, str]] = field(default_factory=set)
    imports: set[tuple[str, str, str]] = field(default_factory=set)
    """Module, name in it ('' for the module), and name here."""
    noted: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)

    def add(self, where: str, name: str) -> None:
        """Add a name's definition after what it needs; a name that is neither defined nor imported there is a builtin."""
        module = parsed(where)
        if name in module.definitions:
            if (where, name) in self.done:
                return
            self.done.add((where, name))
            definition = module.definitions[name]
            needed, noted = _names(definition)
            for other in sorted(needed - {name}):
                self.add(where, other)
            for other in sorted(noted - needed):
                self.note(where, other)
            if name in self.names:
                raise ValueError(f"two definitions are called '{name}'; rename the one in {where}")
            self.parts.append(_source(module, definition))
            self.names.add(name)
        elif members := {n: _registering(d)[name] for n, d in module.definitions.items() if name in _registering(d)}:
            if name not in self.names:
                for member in members:
                    self.add(where, member)
                entries = [f"{ast.unparse(call.args[0])}: {member}" for member, call in members.items()]
                self.parts.append(f"{name} = {{{', '.join(entries)}}}".replace("'", '"'))
                self.names.add(name)
        elif name in module.imports:
            origin, own = module.imports[name]
            if origin.partition(".")[0] == PACKAGE:
                self.add(origin, own)
            elif origin != "__future__":
                self.imports.add((origin, own, name))

    def note(self, where: str, name: str) -> None:
        """Add what an annotation names, if it is a type, or imported from another package."""
        module = parsed(where)
        alias = isinstance(module.definitions.get(name), ast.Assign)
        if alias or (name in module.imports and module.imports[name][0].partition(".")[0] != PACKAGE):
            self.add(where, name)
        elif not hasattr(builtins, name):
            self.noted.add(name)


def _import_lines(found: set[tuple[str, str, str]], standard: bool) -> list[str]:
    lines = []
    for origin in sorted({module for module, _, _ in found}):
        if (origin.partition(".")[0] in sys.stdlib_module_names) != standard:
            continue
        for _, _, here in sorted(entry for entry in found if entry[0] == origin and not entry[1]):
            lines.append(f"import {origin}" + (f" as {here}" if here != origin else ""))
        entries = sorted((own, here) for module, own, here in found if module == origin and own)
        if entries:
            names = ", ".join(own if own == here else f"{own} as {here}" for own, here in entries)
            lines.append(f"from {origin} import {names}")
    return lines


def bundle(where: str) -> str:
    """Return the source of module `where` as one file without imports from this package."""
    module, made = parsed(where), _Bundle()
    for name in module.definitions:
        made.add(where, name)
    docstring = ast.get_docstring(ast.Module(module.body, []), clean=False)
    settings = sorted(made.noted - made.names - {here for _, _, here in made.imports})
    head = [f'"""{docstring}"""', "from __future__ import annotations"]
    head += ["\n".join(_import_lines(made.imports, standard)) for standard in (True, False)]
    head += [f"{' = '.join(settings)} = Any  # settings, as read from config.json"] if settings else []
    return "\n\n".join(head) + "\n\n\n" + "\n\n\n".join(made.parts) + "\n"

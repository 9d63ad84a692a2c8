"""Registries of components by name. Each component is one file that registers it; installed packages can add their own.

A package adds components through an entry point in the group `zaozi.components` that names a module; importing the module
registers its components:

    [project.entry-points."zaozi.components"]
    mine = "my_package.components"
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from pydantic import GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from zaozi.core.errors import ZaoziError, unknown

T = TypeVar("T")
E = TypeVar("E")
GROUP = "zaozi.components"


class Registry(Mapping[str, T], Generic[T]):
    """The components of one type by name, as a mapping: those in `package`, and those from installed packages.

    As an annotation, `Annotated[str, samplers]`, it accepts only known names.
    """

    def __init__(self, what: str, package: str) -> None:
        self.what, self.package = what, package
        self._known: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[E], E]:
        """Return a decorator that adds a component. Raises `ZaoziError` if the name is taken."""

        def add(item: E) -> E:
            other: Any = self._known.get(name)
            if other is not None and _origin(other) != _origin(item):
                raise ZaoziError(f"two {self.what}s are named '{name}': {_origin(other)} and {_origin(item)}")
            self._known[name] = item  # type: ignore[assignment]
            return item

        return add

    __hash__ = object.__hash__  # by identity, since annotations are compared

    def __eq__(self, other: object) -> bool:
        return self is other

    def __getitem__(self, name: str) -> T:
        """Return the component with this name. Raises `ZaoziError` listing the known ones."""
        if name in self:
            return self._known[name]
        raise unknown(self.what, name, self)

    def __contains__(self, name: object) -> bool:
        if name not in self._known:
            self._load()
        if name not in self._known:
            load_installed()
        return name in self._known

    def __iter__(self) -> Iterator[str]:
        self._load()
        load_installed()
        return iter(dict(self._known))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _load(self) -> None:
        """Import the modules of `package`."""
        if self._loaded:
            return
        self._loaded = True  # also during loading
        module = importlib.import_module(self.package)
        for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
            importlib.import_module(f"{self.package}.{found.name}")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._admit, handler(source))

    def _admit(self, name: Any) -> Any:
        if name not in self:
            raise PydanticCustomError("unknown_kind", "unknown", {"expected": ", ".join(map(repr, self))})
        return name


class Families(Registry[Callable[..., T]]):
    """Functions by name that also take numbers, written after the name: `linear:0.0001:0.03` calls `linear(0.0001, 0.03)`.

    Such a name is found like a plain one; iteration gives the plain ones only.
    """

    def family(self, name: str) -> Callable[..., T]:
        """Return the function of a plain name. Raises `ZaoziError` listing the known ones."""
        return super().__getitem__(name)

    def __getitem__(self, name: str) -> Callable[..., T]:
        """Return a function without arguments. Raises `ZaoziError` for an unknown name, or numbers that it does not take."""
        kind, *numbers = name.split(":")
        make = self.family(kind)
        if not numbers:
            return make
        try:
            given = [float(number) for number in numbers]
            inspect.signature(make).bind(*given)
        except (ValueError, TypeError):
            takes = ":".join([kind, *(key.upper() for key in inspect.signature(make).parameters)])
            raise ZaoziError(f"{self.what} '{name[:80]}' has the wrong numbers; write {takes}") from None
        return functools.partial(make, *given)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name.partition(":")[0] if isinstance(name, str) else name)

    def _admit(self, name: Any) -> Any:
        if super()._admit(name) and ":" in name:
            self[name]()  # raises for numbers out of range
        return name


class Configs(Registry[type[T]]):
    """Components that are configurations, distinguished by their field `kind`: `Annotated[NetworkConfig, networks]`."""

    def __init__(self, what: str, package: str, default: str) -> None:
        super().__init__(what, package)
        self.default = default

    def add(self, item: type[E]) -> type[E]:
        """Add a configuration under its `kind`; used as a decorator."""
        return self.register(self.kind_of(item))(item)

    def usual(self) -> T:
        """Return the default kind, for a section that names none."""
        return self[self.default]()

    @staticmethod
    def kind_of(item: type[Any]) -> str:
        return str(next(f.default for f in dataclasses.fields(item) if f.name == "kind"))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(lambda value: self._parse(value, source))

    def _parse(self, value: Any, base: type[Any]) -> Any:
        if isinstance(value, base):
            return value
        kind = value.get("kind", self.default) if isinstance(value, Mapping) else self.default
        if not isinstance(kind, str) or kind not in self:
            problem = PydanticCustomError("unknown_kind", "unknown", {"expected": ", ".join(map(repr, self))})
            raise ValidationError.from_exception_data(self.what, [{"type": problem, "loc": ("kind",), "input": kind}])
        return TypeAdapter(self._known[kind]).validate_python(value)


_installed = False


def load_installed() -> None:
    """Import the components of installed packages, once. Warns about components that cannot be imported and skips them."""
    global _installed  # noqa: PLW0603
    if _installed:
        return
    _installed = True
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:  # third-party modules can raise anything
            name = point.dist.name if point.dist else point.value
            warnings.warn(f"the components of the package {name} cannot be loaded ({error})", stacklevel=2)


def _origin(item: Any) -> str:
    return f"{getattr(item, '__module__', '')}.{getattr(item, '__qualname__', repr(item))}"

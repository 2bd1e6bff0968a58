"""The /docs page: rendered here from the OpenAPI document, one HTML file that loads nothing from anywhere.

FastAPI's own page fetches its scripts from a content delivery network; a cluster without internet would show
nothing.
"""

import json
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from typing import Any

STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--accent:#2563c9}
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.1rem;border-top:1px solid var(--line);padding-top:1.2rem;margin-top:2rem}
code,pre,textarea{font:13px/1.45 ui-monospace,monospace}
pre,textarea{background:var(--soft);border:1px solid
var(--line);border-radius:6px;padding:.7rem;overflow:auto; white-space:pre-wrap;word-break:break-word}
textarea,input{width:100%;box-sizing:border-box;color:inherit}textarea{min-height:8rem}
table{border-collapse:collapse;width:100%;font-size:14px} td,th{border-bottom:1px solid
var(--line);padding:.3rem .5rem;text-align:left;vertical-align:top}
.verb{background:var(--accent);color:#fff;border-radius:4px;padding:.1rem
.5rem;font-size:.8rem;margin-right:.5rem} button{font:inherit;padding:.3rem 1rem;margin:.4rem
0}summary{cursor:pointer}
"""

SCRIPT = """
document.querySelectorAll("form").forEach(form => form.addEventListener("submit", async event => {
  event.preventDefault();
  const output = form.querySelector("output"), body = form.querySelector("textarea");
  const token = document.getElementById("token"), headers = {};
  if (body) headers["Content-Type"] = "application/json";
  if (token && token.value) headers["Authorization"] = "Bearer " + token.value;
  output.innerHTML = ""; const pre = document.createElement("pre"); output.append(pre); pre.textContent =
  "..."; const start = performance.now(); try {
    const answer = await fetch(form.dataset.path, {method: form.dataset.verb, headers, body: body &&
    body.value}); let text = await answer.text(); try { text = JSON.stringify(JSON.parse(text), null, 1); }
    catch {} pre.textContent = answer.status + " in " + Math.round(performance.now() - start) + " ms\\n" +
    text;
  } catch (error) { pre.textContent = String(error); }
}));
"""


def _source(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


# Only our own style and script run, and the page talks to nobody but its own endpoint.
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src {_source(STYLE)}; script-src {_source(SCRIPT)}; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def render_docs(document: Mapping[str, Any], *, base: str = "") -> str:
    """The page for an OpenAPI document. base: path prefix of the endpoint, without a slash at its end."""
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(document['info']['title'])}</title><style>{STYLE}</style>",
        f"<h1>{escape(document['info']['title'])}</h1><p>{escape(document['info'].get('description', ''))}</p>",
        f'<p>The same as a document: <a href="{escape(base)}/openapi.json">{escape(base)}/openapi.json</a></p>',
    ]
    if document.get("components", {}).get("securitySchemes"):
        parts.append(
            '<p><label>Token, kept in this page only: <input id="token" type="password" autocomplete="off"></label></p>'
        )
    for path, verbs in document["paths"].items():
        parts += [_operation(document, base + path, verb, operation) for verb, operation in verbs.items()]
    parts.append(f"<script>{SCRIPT}</script></html>")
    return "".join(parts)


def _operation(document: Mapping[str, Any], path: str, verb: str, operation: Mapping[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    guarded = bool(operation.get("security"))
    example = _example(document, body) if body else None
    html = [
        f'<h2><span class="verb">{escape(verb.upper())}</span><code>{escape(path)}</code> ',
        f"{escape(operation.get('summary', ''))}</h2>",
        f"<p>{escape(operation.get('description', ''))}</p>",
    ]
    if body:
        html.append(_fields(document, body, "Request"))
    html += [
        _fields(document, schema, "Answer")
        for status, answer in operation["responses"].items()
        if status == "200" and (schema := answer.get("content", {}).get("application/json", {}).get("schema"))
    ]
    html.append(f"<h3>curl</h3><pre>{escape(_curl(path, verb, example, guarded))}</pre>")
    field = f"<textarea aria-label='request body'>{escape(json.dumps(example))}</textarea>" if body else ""
    html.append(
        f'<form data-path="{escape(path)}" data-verb="{escape(verb.upper())}">{field}'
        "<button>Send</button><output></output></form>"
    )
    refusals = "".join(
        f"<tr><td>{escape(status)}<td>{escape(answer.get('description', ''))}"
        for status, answer in operation["responses"].items()
        if status != "200"
    )
    if refusals:
        html.append(f"<details><summary>Refusals</summary><table>{refusals}</table></details>")
    return "".join(html)


def _curl(path: str, verb: str, example: Any, guarded: bool) -> str:
    lines = [f'curl "$URL{path}"' if verb == "get" else f'curl -X {verb.upper()} "$URL{path}"']
    if guarded:
        lines.append('-H "Authorization: Bearer $TOKEN"')
    if example is not None:
        lines += ['-H "Content-Type: application/json"', f"-d '{json.dumps(example)}'"]
    return " \\\n  ".join(lines)


def _resolve(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a local `$ref`; FastAPI writes no others."""
    while "$ref" in schema:
        node: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            node = node[part]
        schema = node
    return schema


def _example(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    return _resolve(document, schema).get("example", {})


def _fields(document: Mapping[str, Any], schema: Mapping[str, Any], title: str) -> str:
    """A table of a schema's fields; one level of a list of objects is written out below its field."""
    rows: list[str] = []

    def add(prefix: str, node: Mapping[str, Any]) -> None:
        node = _resolve(document, node)
        required = set(node.get("required", ()))
        for name, field in node.get("properties", {}).items():
            mark = "" if name in required else " <small>(optional)</small>"
            rows.append(
                f"<tr><td><code>{escape(prefix + name)}</code>{mark}<td>{escape(_kind(document, field))}"
                f"<td>{escape(_resolve(document, field).get('description', field.get('description', '')))}"
            )
            items = _resolve(document, field.get("items", {}))
            if "properties" in items:
                add(f"{prefix}{name}[].", items)

    add("", schema)
    if not rows:
        return ""
    example = _example(document, schema)
    shown = f"<pre>{escape(json.dumps(example))}</pre>" if title == "Answer" and example else ""
    return f"<h3>{title}</h3><table><tr><th>field<th>type<th>meaning{''.join(rows)}</table>{shown}"


def _kind(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A schema in a few words: `list of list of number`."""
    schema = _resolve(document, schema)
    if "anyOf" in schema:
        return " or ".join(_kind(document, option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_kind(document, schema.get('items', {}))}"
    return str(schema.get("type", "any"))

"""The /docs page works without a network and cannot be made to run anybody's script."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import httpx

from serve.docs_page import render_docs


class Reader(HTMLParser):
    """Tags, addresses, and the text of style and script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.inline: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "action")]

    def handle_data(self, data: str) -> None:
        if self.lasttag in ("style", "script") and data:
            self.inline.setdefault(self.lasttag, data)


async def page(client: httpx.AsyncClient) -> httpx.Response:
    return await client.get("/docs")


def test_the_page_loads_nothing(ask: Any, spring: Any) -> None:
    text = ask(spring, page).text
    found = Reader(text)
    assert found.addresses == ["/openapi.json"]
    assert not {"link", "img", "iframe", "object"} & set(found.tags)
    assert "url(" not in found.inline["style"]
    assert not re.search(r"https?://", text)


def test_the_page_shows_the_route_its_units_and_a_curl_line(ask: Any, spring: Any, token: str) -> None:
    text = ask(spring, page, tokens=[token]).text
    for words in ("/v1/energy_forces", "eV/angstrom", "curl -X POST", "Authorization: Bearer $TOKEN", "structures[]"):
        assert words in text
    assert "Authorization: Bearer $TOKEN" not in ask(spring, page).text


def test_the_policy_allows_exactly_the_style_and_script_of_the_page(ask: Any, spring: Any) -> None:
    answer = ask(spring, page)
    policy = answer.headers["Content-Security-Policy"]
    for text in Reader(answer.text).inline.values():
        assert b64encode(sha256(text.encode()).digest()).decode() in policy
    assert "default-src 'none'" in policy


def test_text_of_the_document_cannot_become_markup() -> None:
    evil = "<img src=x onerror=alert(1)>"
    document = {
        "info": {"title": evil, "description": evil},
        "paths": {
            f"/{evil}": {
                "post": {
                    "operationId": evil,
                    "summary": evil,
                    "description": evil,
                    "responses": {"200": {}, "422": {"description": evil}},
                    "requestBody": {"content": {"application/json": {"schema": {"example": {evil: evil}}}}},
                }
            }
        },
    }
    assert "img" not in Reader(render_docs(document)).tags

"""Where an endpoint answers."""

import json

from cluster.errors import NotFoundError
from cluster.store import Store


def endpoint_url(store: Store, endpoint: str) -> str:
    """The address of a deployed endpoint; an http(s) address is its own. Raises NotFoundError."""
    if endpoint.startswith(("http://", "https://")):
        return endpoint.rstrip("/")
    key = f"endpoints/{endpoint}/record.json"
    if not store.exists(key):
        names = store.children("endpoints")
        raise NotFoundError(f"no endpoint is called {endpoint!r}", allowed=", ".join(names) or "an http(s) address")
    url = json.loads(store.read(key)).get("url")
    if not url:
        raise NotFoundError(f"endpoint {endpoint!r} has no address", hint="it was taken down; `equi deploy` it again")
    return str(url).rstrip("/")

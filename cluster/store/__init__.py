"""The object store: a folder or an S3 bucket behind one interface with conditional writes."""

from cluster.store.documents import decode_json, encode_json, read_json, swap_json
from cluster.store.interface import Store
from cluster.store.opening import open_store

__all__ = ["Store", "decode_json", "encode_json", "open_store", "read_json", "swap_json"]

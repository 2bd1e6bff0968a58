"""The dataset format: schema, content digest, publication, reading and verification."""

from cluster.dataset.dataset import Dataset, open_dataset

__all__ = ["Dataset", "open_dataset"]

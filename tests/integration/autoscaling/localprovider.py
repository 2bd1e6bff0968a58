"""The node provider of the autoscaling test: each "machine" it starts is a real raylet on this one.

Ray's monitor imports it by name (`localprovider.LocalProvider`), so the head starts with this folder
on PYTHONPATH.
"""

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider


class LocalProvider(FakeMultiNodeProvider):
    """An `external` provider. Our own subclass of a private class: a Ray that moves it breaks only this."""

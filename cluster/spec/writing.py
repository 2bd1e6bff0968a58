"""A spec as YAML text, in the order of its fields: the one form that is stored with runs and shown to people."""

from io import StringIO
from typing import Any

from ruamel.yaml import YAML


def spec_text(data: Any) -> str:
    """Plain data (dictionaries, lists, numbers, text) as YAML that `read_document` reads back."""
    text = StringIO()
    yaml: Any = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.dump(data, text)
    return text.getvalue()

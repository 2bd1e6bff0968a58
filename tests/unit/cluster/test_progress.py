"""What people are told while something runs."""

from io import StringIO

from rich.console import Console

from cluster.progress import Progress


def test_what_is_said_may_have_brackets_in_it() -> None:
    said = StringIO()
    Progress(console=Console(file=said, width=100)).say("rank 0: [/gloo/pair.cc:537] Read error [127.0.0.1]:18562")
    assert said.getvalue() == "rank 0: [/gloo/pair.cc:537] Read error [127.0.0.1]:18562\n"

"""The cache of blocks between processes, on a full disk, damaged, and killed: fewer requests, and never other rows."""

import random
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cluster.dataset import layout
from cluster.dataset.cache import BlockCache
from cluster.dataset.dataset import open_dataset
from cluster.dataset.publish import publish_dataset
from cluster.dataset.tensors import tensor_array
from cluster.store import open_store

pytestmark = pytest.mark.integration

GROUPS = 12
READ = """
    import random, sys
    from pathlib import Path
    from cluster.dataset.cache import BlockCache
    from cluster.dataset.dataset import open_dataset

    uri, folder, limit, seed = sys.argv[1:]
    dataset = open_dataset(uri, cache=BlockCache(Path(folder), int(limit)))
    numbers = list(range(len(dataset.groups())))
    random.Random(int(seed)).shuffle(numbers)
    sys.stdin.readline()
    found = {number: dataset.read_group(number)["id"].to_pylist() for number in numbers}
    print(*[name for number in sorted(found) for name in found[number]])
"""


def waves() -> pa.Table:
    names = [f"wave-{row:03d}" for row in range(8 * GROUPS)]
    values = np.random.default_rng(0).normal(size=(len(names), 1, 1024))
    return pa.table({"id": names, "values": tensor_array(values), "group": names, "split": ["train"] * len(names)})


@pytest.fixture
def uri(s3_environment, monkeypatch) -> str:
    """A dataset of one shard of twelve row groups of 64 KiB, by its address."""
    monkeypatch.setattr(layout, "GROUP_ROWS", (8, 8))
    store = open_store(s3_environment.uri())
    manifest = publish_dataset(store, "waves", waves(), kind="signals", provenance={})
    assert [len(shard.groups) for shard in manifest.shards] == [GROUPS]
    return f"{store.uri}/datasets/waves@1"


def read_by_processes(number: int, uri: str, folder: Path, limit: int) -> list[list[str]]:
    """The ids that each of so many processes reads that all start at once, each in an order of its own."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(READ), uri, str(folder), str(limit)]
    pipe = subprocess.PIPE
    readers = [subprocess.Popen([*command, str(seed)], stdin=pipe, stdout=pipe, text=True) for seed in range(number)]
    printed = []
    for reader in readers:
        assert reader.stdin is not None
        reader.stdin.write("go\n")
        reader.stdin.flush()
    for reader in readers:
        printed.append(reader.communicate(timeout=60)[0].split())
        assert reader.returncode == 0
    return printed


def fetched(s3_environment) -> Counter[str]:
    """How often each range of the shard was fetched."""
    return Counter(span for method, url, span in s3_environment.requests() if method == "GET" and ".parquet" in url)


def ranges(uri: str) -> set[str]:
    groups = open_dataset(uri).manifest.shards[0].groups
    return {f"bytes={group.offset}-{group.offset + group.bytes - 1}" for group in groups}


def test_processes_that_share_a_cache_fetch_each_block_once(uri: str, s3_environment, tmp_path: Path) -> None:
    groups = ranges(uri)
    # Each answer takes a while, so that the readers want the same blocks at the same time.
    s3_environment.break_next({"method": "GET", "path": r"\.parquet", "kind": "delay", "seconds": 0.05, "times": 999})
    expected = waves()["id"].to_pylist()
    assert read_by_processes(3, uri, tmp_path / "cache", 1 << 30) == [expected] * 3
    counts = fetched(s3_environment)
    assert {span: counts[span] for span in groups} == dict.fromkeys(groups, 1)
    assert sum(counts.values()) <= GROUPS + 3  # the footer, once for each process


def test_processes_without_a_cache_fetch_each_block_themselves(uri: str, s3_environment, tmp_path: Path) -> None:
    """The control of the test above: with room for no block, the same counting finds every fetch."""
    groups = ranges(uri)
    s3_environment.break_next()
    assert read_by_processes(2, uri, tmp_path / "cache", 1000) == [waves()["id"].to_pylist()] * 2
    counts = fetched(s3_environment)
    assert {counts[span] for span in groups} == {2}


def test_a_cache_too_small_for_the_dataset_costs_requests_and_no_rows(uri: str, s3_environment, tmp_path: Path) -> None:
    limit = 4 * 70_000
    for _ in range(2):
        assert read_by_processes(2, uri, tmp_path / "cache", limit) == [waves()["id"].to_pylist()] * 2
        assert 0 < BlockCache(tmp_path / "cache", limit).used() <= limit


def test_damaged_entries_are_fetched_again(uri: str, s3_environment, tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 1 << 30)
    dataset = open_dataset(uri, cache=cache)
    whole = dataset.table()
    generator = random.Random(0)
    for path in (tmp_path / "blocks").iterdir():
        body = bytearray(path.read_bytes())
        body[generator.randrange(len(body))] ^= 1 << generator.randrange(8)
        path.write_bytes(body)
    s3_environment.break_next()
    assert open_dataset(uri, cache=cache).table().equals(whole)
    assert {fetched(s3_environment)[span] for span in ranges(uri)} == {1}
    s3_environment.break_next()
    assert open_dataset(uri, cache=cache).table().equals(whole)
    assert fetched(s3_environment) == Counter()


def test_a_full_disk_is_warned_of_once_and_every_row_arrives(uri: str, tmp_path: Path) -> None:
    program = READ.replace("import random, sys", "import random, sys, warnings; warnings.simplefilter('always')")
    mount = 'mount -t tmpfs -o size=300k tmpfs "$0" && exec "$@"'
    usable = subprocess.run(["unshare", "-rm", "sh", "-c", mount, str(tmp_path), "true"], check=False)
    if usable.returncode:
        pytest.skip("no file system may be mounted here")
    command = [sys.executable, "-c", textwrap.dedent(program), uri, str(tmp_path / "cache"), str(1 << 30), "0"]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, str(tmp_path), *command],
        input="go\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == waves()["id"].to_pylist()
    assert done.stderr.count("RuntimeWarning") == 1
    assert "is not used any more: the disk is full. Nothing is lost" in done.stderr


def test_the_bound_holds_while_many_processes_write(tmp_path: Path) -> None:
    limit = 600_000
    program = """
        import random, sys
        from pathlib import Path
        import numpy, pyarrow
        from cluster.dataset.cache import BlockCache

        cache = BlockCache(Path(sys.argv[1]), int(sys.argv[2]))
        generator = random.Random(int(sys.argv[3]))
        for _ in range(150):
            key = generator.randrange(60)
            table = pyarrow.table({"x": numpy.full(1000 + 100 * key, key, dtype=numpy.float64)})
            cache.put(str(key), table)
            found = cache.get(str(generator.randrange(60)))
            assert found is None or len(found) == 1000 + 100 * found["x"][0].as_py()
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(program), str(tmp_path), str(limit)]
    writers = [subprocess.Popen([*command, str(seed)]) for seed in range(4)]
    cache = BlockCache(tmp_path, limit)
    seen = []
    while any(writer.poll() is None for writer in writers):
        if (tmp_path / "used").exists():
            with cache._ledger():  # a listing beside an eviction would count blocks that were never there together
                seen.append(cache.used())
    assert [writer.returncode for writer in writers] == [0, 0, 0, 0]
    assert len(seen) > 20
    assert 0.5 * limit < max(seen) <= limit
    assert not list((tmp_path / "blocks").glob("*.part"))


def test_a_holder_that_is_killed_frees_its_block(tmp_path: Path) -> None:
    program = """
        import sys, time
        from pathlib import Path
        from cluster.dataset.cache import BlockCache
        with BlockCache(Path(sys.argv[1]), 1000).held("block"):
            print("held", flush=True)
            time.sleep(600)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
    with BlockCache(tmp_path, 1000).held("block"):
        pass

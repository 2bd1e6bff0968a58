"""Whether a request can ever fit."""

import itertools

import pytest

from cluster.resources import NodeGroup, fits

SMALL = NodeGroup("small", cpus=4, gpus=0, count=3)
LARGE = NodeGroup("large", cpus=16, gpus=8, count=2)


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert fits(workers=10_000, cpus=64, gpus=8) is None


def test_a_request_as_large_as_the_cluster_fits() -> None:
    assert fits(workers=4, cpus=2, gpus=1, capacity={"CPU": 8, "GPU": 4}) is None


def test_a_request_larger_than_the_cluster_says_what_is_short() -> None:
    text = fits(workers=16, cpus=1, gpus=0, capacity={"CPU": 4, "GPU": 0})
    assert text == "16 workers of 1 CPU need 16 CPUs; the cluster has at most 4"


def test_everything_that_is_short_is_named() -> None:
    text = fits(workers=2, cpus=4, gpus=1, capacity={"CPU": 4})
    assert text is not None
    assert "8 CPUs; the cluster has at most 4" in text
    assert "2 GPUs; the cluster has at most 0" in text


def test_tenths_of_a_cpu_add_up() -> None:
    assert fits(workers=10, cpus=0.1, gpus=0, capacity={"CPU": 1.0}) is None
    assert fits(workers=10, cpus=0.1, gpus=0, groups=[NodeGroup("one", 1, 0, 1)]) is None


def test_a_worker_larger_than_any_node_never_fits_however_many_nodes_there_are() -> None:
    text = fits(workers=1, cpus=8, gpus=0, capacity={"CPU": 12, "GPU": 0}, groups=[SMALL])
    assert text == "a worker of 8 CPU is larger than any node of the cluster: 3 x small (4 CPU)"


def test_what_a_node_has_left_over_is_no_room_for_half_a_worker() -> None:
    # 12 CPUs in all, but a node of 4 holds one worker of 3
    assert fits(workers=3, cpus=3, gpus=0, groups=[SMALL]) is None
    text = fits(workers=4, cpus=3, gpus=0, groups=[SMALL])
    assert text == "4 workers of 3 CPU: the cluster can have at most 3, on 3 x small (4 CPU)"


def test_only_nodes_with_gpus_hold_workers_with_gpus() -> None:
    assert fits(workers=16, cpus=1, gpus=1, groups=[SMALL, LARGE]) is None
    assert fits(workers=17, cpus=1, gpus=1, groups=[SMALL, LARGE]) is not None


def test_a_cluster_without_nodes_holds_nothing() -> None:
    text = fits(workers=1, cpus=1, gpus=0, groups=[])
    assert text == "1 worker of 1 CPU: the cluster has no worker nodes"


@pytest.mark.parametrize(("cpus", "gpus"), list(itertools.product((1, 2, 3, 5), (0, 1, 3))))
def test_the_count_agrees_with_packing_one_worker_after_the_other(cpus: int, gpus: int) -> None:
    free = [[group.cpus, group.gpus] for group in (SMALL, LARGE) for _ in range(group.count)]
    packed = 0
    for node in free:
        while node[0] >= cpus and node[1] >= gpus:
            node[0], node[1], packed = node[0] - cpus, node[1] - gpus, packed + 1
    if packed:
        assert fits(workers=packed, cpus=cpus, gpus=gpus, groups=[SMALL, LARGE]) is None
    assert fits(workers=packed + 1, cpus=cpus, gpus=gpus, groups=[SMALL, LARGE]) is not None

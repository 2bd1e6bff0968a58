"""The spec of a cluster (`kind: cluster`): where Ray runs, which store it uses, and which nodes it may have.

`local` is this machine, `address` a cluster that somebody runs already, `kuberay` one that is described here and
rendered as Kubernetes manifests. Memory is written as Kubernetes does: 512Mi, 64Gi, 1.5Ti.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

from cluster.resources import NodeGroup
from cluster.spec.complaints import Complaint, Surroundings
from cluster.spec.secrecy import is_secret

DNS_LABEL = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

Memory = Annotated[
    str,
    Field(pattern=r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)$", description="a number and a unit: 512Mi, 64Gi"),
]


class Frozen(BaseModel):
    """An immutable piece of the spec; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Count(Frozen):
    """Between how many nodes the autoscaler chooses."""

    min: NonNegativeInt = 0
    max: PositiveInt = 1

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max is {self.max}; allowed: at least min, which is {self.min}")
        return self


class Head(Frozen):
    """The node that runs Ray's control service and no work of its own."""

    cpus: PositiveInt = 2
    memory: Memory = "8Gi"
    image: str | None = Field(default=None, description="instead of the cluster's image")


class WorkerGroup(Frozen):
    """Nodes of one make. A group without `type` has no accelerators."""

    type: str | None = Field(default=None, pattern=DNS_LABEL, description="accelerator, for example h200")
    per_node: NonNegativeInt = Field(default=0, description="accelerators of one node")
    cpus: PositiveInt = Field(default=4, description="CPU cores of one node")
    memory: Memory = "16Gi"
    count: Count = Field(default_factory=Count)
    image: str | None = Field(default=None, description="instead of the cluster's image")
    node_selector: dict[str, str] = Field(
        default_factory=dict, description="labels of the nodes; unless given, equimodels/accelerator=<type> for a type"
    )


class ClusterSpec(Frozen):
    """A cluster, whole."""

    spec_version: Literal[1]
    kind: Literal["cluster"]
    name: str = Field(default="equimodels", pattern=DNS_LABEL)
    backend: Literal["local", "address", "kuberay"]
    store: str = Field(default=".equi/store", description="a folder, file:///folder or s3://bucket/prefix")
    address: str | None = Field(default=None, description="http(s)://host:port of the head's dashboard")
    token_file: str | None = Field(default=None, description="file that holds the token of the cluster")
    namespace: str = Field(default="default", pattern=DNS_LABEL, description="of Kubernetes")
    image: str | None = Field(default=None, description="container image of every node")
    token_secret_name: str | None = Field(
        default=None, pattern=DNS_LABEL, description="Kubernetes Secret with the token of Ray under auth_token"
    )
    store_secret_name: str | None = Field(
        default=None, pattern=DNS_LABEL, description="Kubernetes Secret whose keys are the store's AWS_* variables"
    )
    service_account: str | None = Field(default=None, pattern=DNS_LABEL, description="of Kubernetes, for the workers")
    environment: dict[str, str] = Field(default_factory=dict, description="variables of every node; no secrets")
    idle_seconds: PositiveInt = Field(default=60, description="after which the autoscaler removes an idle node")
    queue: str | None = Field(
        default=None, pattern=DNS_LABEL, description="local queue of Kueue; jobs get a cluster of fixed size"
    )
    head: Head = Field(default_factory=Head)
    workers: dict[Annotated[str, Field(pattern=DNS_LABEL)], WorkerGroup] = Field(default_factory=dict)

    def groups(self) -> list[NodeGroup]:
        """The worker nodes at their largest number."""
        return [
            NodeGroup(name, float(group.cpus), float(group.per_node), group.count.max)
            for name, group in self.workers.items()
        ]

    def most(self) -> dict[str, float]:
        """The capacity of the worker nodes when every group has grown to its largest: {"CPU": n, "GPU": n}."""
        groups = self.groups()
        return {
            "CPU": sum((group.cpus * group.count for group in groups), 0.0),
            "GPU": sum((group.gpus * group.count for group in groups), 0.0),
        }


def bytes_of(memory: str) -> int:
    """`64Gi` as a number of bytes. Raises ValueError for anything that `Memory` does not allow."""
    for unit, size in UNITS.items():
        if memory.endswith(unit):
            return int(float(memory.removesuffix(unit)) * size)
    raise ValueError(f"{memory!r} is no amount of memory; allowed: a number and one of {', '.join(UNITS)}")


def check(spec: ClusterSpec, surroundings: Surroundings) -> list[Complaint]:
    """What belongs to another backend, what this one lacks, and groups that contradict themselves."""
    found = list(_backend(spec))
    found += [
        Complaint(("environment", name), "a manifest is no place for a secret", hint="store_secret_name names a Secret")
        for name in spec.environment
        if is_secret(name)
    ]
    for name, group in spec.workers.items():
        place = ("workers", name)
        if group.type is not None and group.per_node == 0:
            found.append(
                Complaint((*place, "type"), "an accelerator type without accelerators", "per_node of 1 or more")
            )
        if group.type is None and group.per_node > 0:
            found.append(
                Complaint((*place, "per_node"), "accelerators of no type", hint="add type, for example type: h200")
            )
    return found


def _backend(spec: ClusterSpec) -> list[Complaint]:
    given = spec.model_fields_set
    described = {"head", "workers", "image", "namespace", "token_secret_name", "store_secret_name"}
    described |= {"service_account", "environment", "idle_seconds", "queue"}
    found: list[Complaint] = []
    if spec.backend == "address" and spec.address is None:
        found.append(Complaint(("address",), "is missing; backend address needs it", "http(s)://host:port"))
    if spec.address is not None and not spec.address.startswith(("http://", "https://")):
        found.append(Complaint(("address",), "is no address of a dashboard", "http(s)://host:port"))
    foreign = {
        "local": {"address", "token_file", *described},
        "address": described,
        "kuberay": {"address", "token_file"},
    }[spec.backend]
    found += [Complaint((key,), f"does not apply to backend {spec.backend}") for key in sorted(foreign & given)]
    if spec.backend == "kuberay":
        if not spec.workers:
            found.append(Complaint(("workers",), "backend kuberay needs at least one group of workers"))
        if not spec.store.startswith("s3://"):
            found.append(Complaint(("store",), "nodes of a cluster share no folder", "s3://bucket/prefix"))
    return found

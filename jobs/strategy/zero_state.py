"""The training state under ZeRO, as runs of numbers. It speaks to DeepSpeed 0.19.8's optimizers, and to no other's.

A shard is a rank's run of a parameter: where it starts in the flattened parameter, and where its numbers lie in one of
the rank's flat tensors of masters. Moments are flat tensors of the same layout, in the state of torch's own optimizer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from jobs.state.piece import VALUE, Find, Piece, Pieces, Slots
from jobs.strategy.optimizers import fill, fresh_state, moments_in


@dataclass(frozen=True)
class Shard:
    """A rank's run of a parameter: `count` numbers from `start`, in flat tensor number `flat` from `offset`."""

    start: int
    count: int
    flat: int
    offset: int


class ZeroState:
    """What the stages 1, 2 and 3 have in common; a stage says where its shards lie."""

    def __init__(self, model: nn.Module, optimizer: Any) -> None:
        self._zero = optimizer  # DeepSpeed's; `optimizer.optimizer` is torch's
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._shards = dict(self._divide())

    def values(self) -> Pieces:
        """This rank's masters."""
        return {name: self._piece(shard, self._flats()[shard.flat]) for name, shard in self._shards.items()}

    def moments(self) -> Slots:
        """This rank's moments."""
        found: Slots = {}
        for name, shard in self._shards.items():
            flat = self._flats()[shard.flat]
            for slot, moment in moments_in(self._zero.optimizer.state.get(flat, {})).items():
                found.setdefault(slot, {})[name] = self._piece(shard, moment)
        return found

    @torch.no_grad()
    def install(self, values: Mapping[str, Piece]) -> None:
        """Let the forward pass use these masters. A collective."""
        for name, piece in self.values().items():
            piece.values.copy_(values[name].values)
        self._publish()

    @torch.no_grad()
    def load(self, find: Find, steps: int) -> None:
        """Masters, and moments after `steps` steps, from a saved state. A collective."""
        inner = self._zero.optimizer
        inner.state.clear()
        if steps:
            for number, flat in enumerate(self._flats()):
                inner.state[flat] = fresh_state(inner.param_groups[self._group(number)], flat, steps)
        for name, shard in self._shards.items():
            held = self._flats()[shard.flat]
            wanted = {VALUE: held, **moments_in(inner.state.get(held, {}))}
            fill({slot: self._piece(shard, flat) for slot, flat in wanted.items()}, name, find)
        self._publish()

    @staticmethod
    def _piece(shard: Shard, flat: Tensor) -> Piece:
        return Piece(shard.start, flat.detach().narrow(0, shard.offset, shard.count))

    def _divide(self) -> Iterator[tuple[str, Shard]]:
        raise NotImplementedError

    def _flats(self) -> list[Tensor]:
        """The flat tensors of masters of this rank."""
        raise NotImplementedError

    def _group(self, flat: int) -> int:
        """The group of the optimizer that a flat tensor is of."""
        raise NotImplementedError

    def _publish(self) -> None:
        """Masters to what the forward pass reads, on all ranks."""
        raise NotImplementedError


class PartitionedOptimizer(ZeroState):
    """Stages 1 and 2: all parameters laid end to end, and cut in as many equal parts as there are ranks."""

    def _divide(self) -> Iterator[tuple[str, Shard]]:
        for name, p in self._trained.items():
            found: Any = getattr(p, "_hp_mapping", None)
            if found is not None:
                inside, held = found.lp_fragment_address, found.hp_fragment_address
                yield name, Shard(inside.start, inside.numel, found.param_group_index, held.start)

    def _flats(self) -> list[Tensor]:
        flats: list[Tensor] = self._zero.single_partition_of_fp32_groups
        return flats

    def _group(self, flat: int) -> int:
        return flat

    def _publish(self) -> None:
        self._zero.update_lp_params()


class PartitionedParameters(ZeroState):
    """Stage 3: each parameter cut in as many equal parts as there are ranks, the last ones padded."""

    def __init__(self, model: nn.Module, optimizer: Any) -> None:
        # In fp32 one copy serves as parameters and as masters. DeepSpeed means to do this, but compares a device with
        # the name of one, and keeps two.
        for master, part in zip(
            optimizer.fp32_partitioned_groups_flat, optimizer.fp16_partitioned_groups_flat, strict=True
        ):
            if (master.dtype, master.device) == (part.dtype, part.device):
                master.data = part.data
        super().__init__(model, optimizer)

    def _divide(self) -> Iterator[tuple[str, Shard]]:
        for name, p in self._trained.items():
            parameter: Any = p
            flat, offset, length = self._zero.grad_position[self._zero.get_param_id(p)]
            start = length * self._zero._get_param_partition_rank(p)
            count = min(length, parameter.ds_numel - start)
            if count > 0:
                yield name, Shard(start, count, flat, offset)

    def _flats(self) -> list[Tensor]:
        flats: list[Tensor] = self._zero.fp32_partitioned_groups_flat
        return flats

    def _group(self, flat: int) -> int:
        group: int = self._zero.sub_group_to_group_id[flat]
        return group

    def _publish(self) -> None:
        # What a step of DeepSpeed does around its update: let go of what is gathered, and gather small ones again.
        self._zero._partition_all_parameters()
        for number in range(len(self._flats())):
            self._zero._reassign_or_swap_out_partitioned_parameters(number)
        self._zero._post_step(set())

"""DeepSpeed ZeRO (Rajbhandari et al. 2020), stages 0 to 3. The only file that imports deepspeed.

Forces come from a second backward pass inside the model's forward, so the engine sees an ordinary loss.
"""

import contextlib
import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from jobs.spec.train import TrainSpec
from jobs.state.piece import Find, Piece, Pieces, Slots
from jobs.strategy.optimizers import build_optimizer
from jobs.strategy.precision import autocast
from jobs.strategy.replicated_state import ReplicatedState
from jobs.strategy.zero_config import deepspeed_config
from jobs.strategy.zero_state import PartitionedOptimizer, PartitionedParameters, ZeroState
from jobs.training.guard import taken
from jobs.world import World


class ZeroEngine:
    """A DeepSpeed engine behind the loop's interface; torch.distributed is running already.

    conservative: whether forces are a gradient of the energy, so that the backward pass goes through parameters that a
    first one has let go of. Stage 3 then gathers all of them around it.
    """

    def __init__(
        self, model: nn.Module, spec: TrainSpec, world: World, device: torch.device, *, conservative: bool
    ) -> None:
        import deepspeed

        # An operator for shared-memory reductions that takes minutes to compile and is not needed.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.utils.logger.setLevel("ERROR")
        self.module = model
        self._strategy, self._device = spec.strategy, device
        self._shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad}
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=model,
            optimizer=build_optimizer(self._parameters, spec.optimizer),
            dist_init_required=False,
            config=deepspeed_config(spec, world.size),
        )
        self._steps, self._limit, self._norm = 0, math.inf, math.nan
        self._gathers = conservative and spec.strategy.stage == 3
        self._state: ReplicatedState | ZeroState
        if spec.strategy.stage == 0:
            self._state = ReplicatedState(model, self._optimizer, world)
        elif spec.strategy.stage == 3:
            self._state = PartitionedParameters(model, self._optimizer)
            self._watch("_get_norm_groups")
        else:
            self._state = PartitionedOptimizer(model, self._optimizer)
            self._watch("scaled_global_norm")

    def forward(self, *inputs: Any) -> Any:
        # Not through DeepSpeed's own forward: it would take any gradient of the output for the end of a step, and the
        # two-phase step takes one of the energy. Hooks of stage 3 are the modules' own.
        with autocast(self._strategy, self._device):
            return self.module(*inputs)

    def backward(self, loss: Tensor, *, last: bool = True) -> None:
        from deepspeed.runtime.utils import register_output_backward_hooks

        self._engine.set_gradient_accumulation_boundary(last)
        if isinstance(self._state, ZeroState):
            self._optimizer.clear_backward_seen_flag()
        # What DeepSpeed's forward does to its output, done to the loss.
        register_output_backward_hooks(loss, preprocess_once_fn=self._engine._backward_prologue)
        with self._gathered():
            self._engine.backward(loss)

    def step(self, lr: float, *, limit: float = math.inf) -> float:
        self._limit, before = limit, self._engine.skipped_steps
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        if isinstance(self._state, ReplicatedState):
            for p in self._parameters:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            total = get_total_norm([p.grad for p in self._parameters if p.grad is not None])
            self._norm = float(total)
            if not taken(self._norm, limit):
                self._engine.zero_grad()
                return self._norm
            clip_grads_with_norm_(self._parameters, self._strategy.gradient_clipping, total)
        self._engine.step()
        self._steps += self._engine.skipped_steps == before
        return self._norm

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return dict(self._shapes)

    def values(self) -> Pieces:
        return self._state.values()

    def moments(self) -> Slots:
        return self._state.moments()

    def counters(self) -> dict[str, int]:
        return {"steps": self._steps}

    def install(self, values: Mapping[str, Piece]) -> None:
        self._state.install(values)

    def load(self, find: Find, counters: Mapping[str, int]) -> None:
        self._steps = counters["steps"]
        self._state.load(find, self._steps)

    def _gathered(self) -> contextlib.AbstractContextManager[Any]:
        if not self._gathers:
            return contextlib.nullcontext()
        import deepspeed

        gathered: contextlib.AbstractContextManager[Any] = deepspeed.zero.GatheredParameters(self._parameters)
        return gathered

    def _watch(self, name: str) -> None:
        """Keep the norm that DeepSpeed finds; one above the limit becomes infinite, and so a step that it leaves out.

        DeepSpeed offers no place to look at the norm before the update, and to compute it twice costs a reduction more.
        """
        from deepspeed.runtime.utils import combine_grad_norm_groups

        ask = getattr(self._optimizer, name)

        def watched() -> Any:
            found = ask()
            total = combine_grad_norm_groups(found) if isinstance(found, list) else found
            self._norm = float(total)  # infinite for what is not a number, too
            if taken(self._norm, self._limit):
                return found
            bad = torch.full_like(total, math.inf)
            return [bad] if isinstance(found, list) else bad

        setattr(self._optimizer, name, watched)


class _Asked(dict[str, Any]):
    """A dictionary that remembers which keys it was asked for; copies of it share the memory."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def __copy__(self) -> "_Asked":
        other = _Asked(self)
        other.asked = self.asked
        return other

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def keys(self) -> Any:
        return _Keys(self)


class _Keys:
    def __init__(self, of: _Asked) -> None:
        self._of = of

    def __contains__(self, key: object) -> bool:
        return key in self._of

    def __iter__(self) -> Any:
        return iter(dict.keys(self._of))


def read_config(config: Mapping[str, Any]) -> set[str]:
    """Let DeepSpeed read a configuration; the names on its top level that DeepSpeed knows.

    DeepSpeed keeps no list of them and ignores what it does not know. Raises what it raises for wrong values.
    """
    import deepspeed.runtime.config

    asked = _Asked(copy.deepcopy(dict(config)))
    try:
        deepspeed.runtime.config.DeepSpeedConfig(asked)
    except deepspeed.runtime.config.DeepSpeedConfigError as error:  # what it once had; no kind of ValueError
        raise ValueError(str(error)) from None
    return asked.asked

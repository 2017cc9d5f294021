"""The processes that train one run together: each runs its share of every batch, and gradients are added up.

Losses are divided by the whole batch's weight before they are added, so that any number of processes takes the same step as one.
One process alone is the usual world. This module knows nothing about models.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class World:
    """`rank` of `size` processes; the first (rank 0) writes all files."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, rows: list[int]) -> list[int]:
        """This process's part of a batch; every row is in one part."""
        return rows[self.rank :: self.size]

    def add_up(self, tensors: "Iterable[torch.Tensor]") -> None:
        """Replace each tensor by its sum over all processes: one message for all of them."""
        import torch
        import torch.distributed as distributed

        tensors = list(tensors)
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def total(self, value: float) -> float:
        """The sum of a number over all processes."""
        import torch

        found = torch.tensor([value], dtype=torch.float64)
        self.add_up([found])
        return found.item()

    def agreed(self, value: Any) -> Any:
        """What the first process says, in all of them. Also waits for all."""
        if self.size == 1:
            return value
        import torch.distributed as distributed

        said = [value]
        distributed.broadcast_object_list(said, src=0)
        return said[0]


def joined() -> World:
    """The world that a launcher (`accelerate launch`, `torchrun`) started this process in; alone without one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World()
    import torch
    import torch.distributed as distributed

    if not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))  # each process has a GPU of its own
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return World(distributed.get_rank(), distributed.get_world_size())


def leave(world: World) -> None:
    """Wait for the others and part from them."""
    import torch.distributed as distributed

    if world.size > 1:
        distributed.barrier()
        distributed.destroy_process_group()

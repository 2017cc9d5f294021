"""A model's layers divided among the processes that train it (FSDP2, `torch.distributed.fsdp.fully_shard`): for models that do not fit one.

Each process keeps its share of every layer's weights, gradients and optimiser state; a layer is put together when its turn comes, and
let go again. Embeddings, the last norm and the head, which are called by themselves, stay whole in every process; their gradients are
added up as without sharding (`world.add_up`). Losses are divided by the whole batch's weight before, so gradients are summed here, not
averaged. After Zhao et al. 2023, https://arxiv.org/abs/2304.11277. Runs on GPUs (NCCL) and, for tests, on processors (gloo).

Every process must run the layers equally often (`evenly`), and all of them must take part where a whole tensor is wanted (`whole`,
`gathered`). This module knows nothing about models but that they have layers.
"""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from labkit.training.world import World


def shard(layers: "Iterable[torch.nn.Module]", world: "World") -> None:
    """Divide a model's layers among the processes, in place; call it before anything holds their parameters (masters, optimiser, maps
    that are fused: those keep whole weights of their own). On a machine with GPUs each layer moves to the process's own."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (world.size,))
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        layer.set_gradient_divide_factor(1.0)
        layer.set_force_sum_reduction_for_comms(True)  # gloo has no other


def is_divided(tensor: "torch.Tensor") -> bool:
    """Whether each process holds only a share of it."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: "torch.Tensor") -> "torch.Tensor":
    """The tensor as if it were not divided. All processes must ask for it, in the same order."""
    return tensor.full_tensor() if is_divided(tensor) else tensor


def gathered(tensors: "Mapping[str, torch.Tensor]", keep: bool) -> "dict[str, torch.Tensor]":
    """Each of these tensors whole, on the CPU, one after the other; nothing where this process is not to `keep` them. All processes must
    call it, with the same names in the same order, where one of the tensors is divided."""
    found = {}
    for name, tensor in tensors.items():
        value = whole(tensor.detach())
        if keep:
            found[name] = value.cpu()
    return found


def share_of(value: "torch.Tensor", like: "torch.Tensor") -> "torch.Tensor":
    """This process's share of a whole value that every process has, divided as `like` is; the value itself where `like` is whole, or of
    another shape (a step's number)."""
    from torch.distributed.tensor import distribute_tensor

    if not is_divided(like) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def put(target: "torch.Tensor", value: "torch.Tensor") -> None:
    """Copy a whole value, which every process has, into a tensor that may be divided: each takes its share."""
    import torch

    with torch.no_grad():
        target.copy_(share_of(value, target))


def by_kind(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The optimiser's groups, each divided in two where it holds divided and whole parameters: no fused step takes both."""
    found = []
    for group in groups:
        for divided in (False, True):
            mine = [entry for entry in group["params"] if is_divided(entry[1] if isinstance(entry, tuple) else entry) is divided]
            if mine:
                found.append({**group, "params": mine})
    return found


def clip(parameters: "Iterable[torch.nn.Parameter]", most: float) -> float:
    """`torch.nn.utils.clip_grad_norm_` over divided and whole gradients together; gives the norm before clipping. All processes must
    call it."""
    import torch
    import torch.distributed as distributed

    parameters = list(parameters)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not any(map(is_divided, gradients)):
        return torch.nn.utils.clip_grad_norm_(parameters, most).item()
    shares = [gradient.to_local() for gradient in gradients if is_divided(gradient)]
    own = [gradient for gradient in gradients if not is_divided(gradient)]
    device = gradients[0].device
    squares = lambda tensors: torch.stack([tensor.float().square().sum() for tensor in tensors] or [torch.zeros((), device=device)]).sum()  # noqa: E731
    divided = squares(shares)
    distributed.all_reduce(divided)
    norm = math.sqrt((divided + squares(own)).item())
    if norm > most:
        for gradient in (*shares, *own):
            gradient.mul_(most / (norm + 1e-6))
    return norm


def evenly(parts: list[list[list[int]]], rank: int) -> list[tuple[list[int], float]]:
    """A process's parts of a batch with how much each counts, as many as the process with the most has: a spare one is run for nothing.

    Args:
        parts: of every process, the parts (rows) of its share of the batch; any process can tell them all. Each row list is not empty;
            a process whose share is empty runs another's first part.
    """
    own, longest = parts[rank], max(len(each) for each in parts)
    spare = own[0] if own else next(each[0] for each in parts if each)
    return [(part, 1.0) for part in own] + [(spare, 0.0)] * (longest - len(own))

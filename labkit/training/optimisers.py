"""Optimisers by name, and their state as plain tensors.

    adamw          decoupled weight decay (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101): PyTorch's, fused
    adafactor      second moments by rows and columns, no first (Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235): transformers'
    lion           the sign of an interpolated momentum (Chen et al. 2023, https://arxiv.org/abs/2302.06675)
    muon           momentum whose singular values are all made 1, for hidden matrices (Jordan 2024, https://kellerjordan.github.io/posts/muon/),
                   AdamW for all else; scaled so that AdamW's learning rate fits (Liu et al. 2025, https://arxiv.org/abs/2502.16982)
    schedule_free  AdamW whose weights are averaged as they go, for a constant rate (Defazio et al. 2024, https://arxiv.org/abs/2405.15682)
    sgd            momentum, with decoupled weight decay like all others

The last four are `pytorch_optimizer`'s. Weight decay shrinks a weight by learning rate x decay a step in each of them, and spares biases,
norms and scales. This module knows nothing about models beyond the names and shapes of their parameters, nor about schedules: the rate
of a step is set in `param_groups` by who calls.

Starting points beside AdamW's learning rate: Lion a third to a tenth of it, with as many times the decay (section 5 of its paper),
schedule-free one to ten times (its authors' advice, https://github.com/facebookresearch/schedule_free), SGD far more.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.training import sharding

if TYPE_CHECKING:
    import torch

NAMES = ("adamw", "adafactor", "lion", "muon", "schedule_free", "sgd")

_MOVING = ("step", "weight_sum", "lr_max", "train_mode")  # what the steps change in a group
_NOT_HIDDEN = {"wte", "wpe", "lm_head", "classifier", "score", "head", "heads", "prompt_encoder"}  # parts of names


def build(name: str, groups: Iterable[dict[str, Any]], learning_rate: float, *, beta1: float = 0.9, beta2: float = 0.999,
          epsilon: float = 1e-8, weight_decay: float = 0.0, momentum: float = 0.9) -> "torch.optim.Optimizer":
    """An optimiser over groups of parameters.

    Args:
        groups: each with `params` (parameters, or pairs of name and parameter: names tell embeddings and heads from other matrices) and, if
            wanted, `faster`, how many times the learning rate it moves at. A group may come out as several, with and without weight
            decay, by Muon and by AdamW; all keep what else stood in it.
        beta1: decay of the first moment; schedule-free: the average's share in the place where gradients are taken. Adafactor has none.
        beta2: decay of the second moment; Lion: of the momentum. Adafactor's is 1 - step^-0.8.
        epsilon: added to the root of the second moment.
        momentum: of `sgd` and of Muon's matrices.

    Raises:
        LabError: there is no such optimiser, or the setting is not one it can have.
    """
    import torch

    if name not in NAMES:
        raise LabError(f"recipe: optimiser must be one of {', '.join(NAMES)}, not {name!r}")
    made = list(_split(groups, learning_rate, weight_decay, by_muon=name == "muon"))
    if not made:
        raise LabError("nothing is left to learn: no parameter was given to the optimiser")
    if name == "adamw":
        return torch.optim.AdamW(made, learning_rate, betas=(beta1, beta2), eps=epsilon, fused=True)
    if name == "adafactor":
        from transformers.optimization import Adafactor

        # Steps as large as the rate says. The paper's are a share of the parameter's own size: LoRA's second matrix, zero at first, would
        # hardly move.
        return Adafactor(made, learning_rate, scale_parameter=False, relative_step=False)
    import pytorch_optimizer

    if name == "lion":
        return pytorch_optimizer.Lion(made, learning_rate, betas=(beta1, beta2))
    if name == "muon":
        return pytorch_optimizer.Muon(made, learning_rate, momentum=momentum, use_adjusted_lr=True, adamw_lr=learning_rate,
                                      adamw_betas=(beta1, beta2), adamw_eps=epsilon)
    if name == "schedule_free":
        if not 0 < beta1 < 1:
            raise LabError(f"recipe: beta1 must be above 0 for schedule_free, not {beta1:g}: it lies between the weights and their average")
        return pytorch_optimizer.ScheduleFreeAdamW(made, learning_rate, betas=(beta1, beta2), eps=epsilon)
    return pytorch_optimizer.SGDW(made, learning_rate, momentum=momentum)


def no_decay(name: str, parameter: "torch.Tensor") -> bool:
    """Whether weight decay spares it: biases, norms and all else with one number a channel, and IA3's factors, which rest at 1, not 0."""
    return parameter.ndim < 2 or name.endswith("bias") or "ia3_" in name


def is_hidden_matrix(name: str, parameter: "torch.Tensor") -> bool:
    """Whether Muon moves it: a matrix between hidden states; no embedding, no output over labels or words, no single row or column."""
    if parameter.ndim != 2 or min(parameter.shape) == 1 or no_decay(name, parameter):
        return False
    return not any(part in _NOT_HIDDEN or "embed" in part for part in name.lower().split("."))


def _split(groups: Iterable[dict[str, Any]], learning_rate: float, weight_decay: float, by_muon: bool) -> Iterator[dict[str, Any]]:
    """The groups, each divided by what is done with its parameters; their order stays within each part."""
    for group in groups:
        parts: dict[tuple[bool, bool], list[Any]] = {}
        for entry in group["params"]:
            name, parameter = entry if isinstance(entry, tuple) else ("", entry)
            kind = bool(weight_decay) and not no_decay(name, parameter), by_muon and is_hidden_matrix(name, parameter)
            parts.setdefault(kind, []).append(parameter)
        for (decays, hidden), parameters in parts.items():
            rest = {"faster": 1.0, **{key: value for key, value in group.items() if key != "params"}}
            yield {**rest, "params": parameters, "lr": learning_rate * rest["faster"], "weight_decay": weight_decay if decays else 0.0,
                   **({"use_muon": hidden} if by_muon else {})}


def set_momentum(optimiser: "torch.optim.Optimizer", value: float) -> None:
    """Set the decay of the first moment, for schedules that move it. Adafactor has none; schedule-free's beta1 is none, and stays."""
    if _averages_itself(optimiser):
        return
    for group in optimiser.param_groups:
        if "momentum" in group:
            group["momentum"] = value
        elif "betas" in group:
            group["betas"] = (value, group["betas"][1])


def _averages_itself(optimiser: "torch.optim.Optimizer") -> bool:
    return "train_mode" in optimiser.param_groups[0]


@contextlib.contextmanager
def averaged(optimiser: "torch.optim.Optimizer") -> Iterator[None]:
    """Within the block the parameters have the values to be measured and saved: schedule-free's average; with other optimisers their own.

    Afterwards they are what they were to the last bit, so that a measurement more or less changes nothing.
    """
    import torch

    if not _averages_itself(optimiser):
        yield
        return
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    before, modes = [parameter.detach().clone() for parameter in parameters], [group["train_mode"] for group in optimiser.param_groups]
    optimiser.eval()
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(parameters, before)
        for group, mode in zip(optimiser.param_groups, modes, strict=True):
            group["train_mode"] = mode


def settle(optimiser: "torch.optim.Optimizer") -> None:
    """After the last step: leave the values to be saved in the parameters."""
    if _averages_itself(optimiser):
        optimiser.eval()


def state_tensors(optimiser: "torch.optim.Optimizer") -> dict[str, "torch.Tensor"]:
    """Everything that the steps so far left in the optimiser, by name.

    A parameter's are `GROUP.PLACE:NAME`, a group's `GROUP:NAME`. Numbers are float64 or int64 tensors of no dimension, under a name that
    ends in `#`. They are the living tensors: write them before the next step.
    """
    import torch

    found = {}
    for number, group in enumerate(optimiser.param_groups):
        entries = [(f"{number}:{name}", group[name]) for name in _MOVING if name in group]
        for place, parameter in enumerate(group["params"]):
            own = optimiser.state.get(parameter, {})
            entries += [(f"{number}.{place}:{name}", value) for name, value in own.items() if value is not None]
        for key, value in entries:
            if isinstance(value, torch.Tensor):
                found[key] = value.detach()
            else:
                found[f"{key}#"] = torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)
    return found


def load_state(optimiser: "torch.optim.Optimizer", tensors: dict[str, "torch.Tensor"]) -> None:
    """Put back what `state_tensors` gave: the next step is, bit for bit, the one that would have followed.

    Raises:
        LabError: the tensors are of other parameters or of another optimiser.
    """
    whole = optimiser.state_dict()
    sizes = [len(group["params"]) for group in whole["param_groups"]]
    places = iter(range(sum(sizes)))
    place_of = {f"{number}.{place}": next(places) for number, size in enumerate(sizes) for place in range(size)}
    groups = [dict(group) for group in whole["param_groups"]]
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        owner, _, name = key.partition(":")
        value = _number(name, tensor) if name.endswith("#") else tensor.clone()
        name = name.removesuffix("#")
        if owner in place_of:
            number, _, place = owner.partition(".")
            parameter = optimiser.param_groups[int(number)]["params"][int(place)]
            if not _fits(name, tensor, parameter):
                raise LabError(f"the optimiser's state does not fit: {key} is {tuple(tensor.shape)}, "
                               f"its parameter {tuple(parameter.shape)}")
            state.setdefault(place_of[owner], {})[name] = value if key.endswith("#") else sharding.share_of(value, parameter)
        elif owner.isdecimal() and int(owner) < len(groups) and name in _MOVING:
            groups[int(owner)][name] = value
        else:
            raise LabError(f"the optimiser's state does not fit: there is no place for {key}")
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def _number(name: str, tensor: "torch.Tensor") -> float | int | bool:
    return bool(tensor.item()) if name == "train_mode#" else tensor.item()


def _fits(name: str, tensor: "torch.Tensor", parameter: "torch.Tensor") -> bool:
    """A parameter's state is a number, as large as the parameter, or (Adafactor) the means of its rows or columns."""
    shape = tuple(parameter.shape)
    means = {"exp_avg_sq_row": shape[:-1], "exp_avg_sq_col": shape[:-2] + shape[-1:]}
    return tuple(tensor.shape) in ((), means.get(name, shape))


def trail(name: str, surface: Callable[["torch.Tensor"], "torch.Tensor"], start: tuple[float, ...], learning_rate: float, steps: int,
          **settings: float) -> list[tuple[float, ...]]:
    """Where an optimiser goes on a surface, from the start on, `steps` + 1 places: what its figures and first lessons need.

    Args:
        surface: the height, float32 (), of a place, float32 (coordinates,).
        settings: of `build`. Muon, which is for matrices, walks as AdamW here.
    """
    import torch

    place = torch.nn.Parameter(torch.tensor(start, dtype=torch.float32))
    optimiser = build(name, [{"params": [place]}], learning_rate, **settings)
    walked = [tuple(start)]
    for _ in range(steps):
        optimiser.zero_grad()
        surface(place).backward()
        optimiser.step()
        with averaged(optimiser):
            walked.append(tuple(place.detach().tolist()))
    return walked

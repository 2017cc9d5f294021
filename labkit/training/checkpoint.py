"""The state of an unfinished training: one safetensors file with masters, the optimiser's state, averages, random state and step, and a
second one with the best weights so far where the recipe keeps them."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from labkit import files
from labkit.errors import LabError
from labkit.training import optimisers, sharding

if TYPE_CHECKING:
    import torch

    from labkit.training.averaging import Averages
    from labkit.training.early_stopping import EarlyStopping
    from labkit.training.masters import Masters

_FILE = "checkpoint/state.safetensors"
_BEST = "checkpoint/best.safetensors"


def begin(folder: Path, identity: dict[str, str]) -> None:
    """Throw away what an earlier, unfinished training of another identity left in a run's folder, and note this one's.

    Args:
        identity: what must be the same for a training to go on: the recipe, the data's fingerprint, the base's sha256.
    """
    begun = folder / "begun.json"
    if not begun.exists() or files.read_json(begun) != identity:
        delete(folder)
        (folder / "metrics.jsonl").unlink(missing_ok=True)
    files.write_json(begun, identity)


def save(folder: Path, step: int, masters: "Masters", optimiser: "torch.optim.Optimizer", averages: "Averages | None" = None,
         stopping: "EarlyStopping | None" = None, writes: bool = True) -> None:
    """Write the state after `step` steps, in place of the one before, whole or not at all. Several processes all call it, and one `writes`:
    of a divided model each has a share."""
    import torch

    tensors = {"random": torch.get_rng_state(), **{f"weight:{name}": value for name, value in masters.items()},
               **{f"optimiser:{name}": value for name, value in optimisers.state_tensors(optimiser).items()}}
    if averages is not None:
        tensors |= {f"average:{name}": value for name, value in averages.state_tensors().items()}
    _write(folder / _FILE, tensors, {"step": str(step), "stopping": json.dumps(stopping.state() if stopping else {})}, writes)


def load(folder: Path, masters: "Masters", optimiser: "torch.optim.Optimizer", averages: "Averages | None" = None,
         stopping: "EarlyStopping | None" = None) -> int:
    """Put the last state back and give its step; 0 where there is none.

    Raises:
        LabError: the file is not a checkpoint of this model.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    path = folder / _FILE
    if not path.exists():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata()
            step = int(told["step"])
            for name, parameter in masters.items():
                sharding.put(parameter, file.get_tensor(f"weight:{name}"))
            part = lambda start: {key.removeprefix(start): file.get_tensor(key) for key in file.keys() if key.startswith(start)}  # noqa: E731, SIM118
            optimisers.load_state(optimiser, part("optimiser:"))
            if averages is not None:
                averages.load_state(part("average:"))
            if stopping is not None:
                stopping.load_state(json.loads(told["stopping"]))
            torch.set_rng_state(file.get_tensor("random"))
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise LabError(f"{path} is not a checkpoint of this run ({error}); delete it to begin anew") from error
    return step


def last_step(folder: Path) -> int:
    """The step of the last state; 0 where there is none.

    Raises:
        LabError: the file is not a checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / _FILE
    if not path.exists():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            return int(file.metadata()["step"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise LabError(f"{path} is not a checkpoint ({error}); delete it to begin anew") from error


def save_best(folder: Path, masters: "Masters", writes: bool = True) -> None:
    """Keep these weights as the best so far; for `writes` see `save`."""
    _write(folder / _BEST, masters, {}, writes)


def load_best(folder: Path, masters: "Masters") -> bool:
    """Put the best weights into the masters; False where none were kept."""
    from safetensors import safe_open

    if not (folder / _BEST).exists():
        return False
    with safe_open(folder / _BEST, framework="pt") as file:
        for name, parameter in masters.items():
            sharding.put(parameter, file.get_tensor(name))
    return True


def delete(folder: Path) -> None:
    """Remove the checkpoint, if there is one."""
    shutil.rmtree((folder / _FILE).parent, ignore_errors=True)


def _write(path: Path, tensors: "Mapping[str, torch.Tensor]", told: dict[str, str], writes: bool) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if not writes and not any(map(sharding.is_divided, tensors.values())):
        return
    gathered = sharding.gathered(tensors, keep=writes)
    if not writes:
        return
    with files.whole(path) as part:
        try:
            save_file({name: value.contiguous() for name, value in gathered.items()}, part, metadata=told)
        except SafetensorError as error:  # a full disk comes as one
            raise LabError(f"cannot write {path}: {error}; free some space, then go on with the same command (the checkpoint before it "
                           "is whole)") from error

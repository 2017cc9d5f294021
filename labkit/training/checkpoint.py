"""The state of an unfinished training in one safetensors file: masters, AdamW's moments, random state, step."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from labkit import files
from labkit.errors import LabError

if TYPE_CHECKING:
    import torch

    from labkit.training.adapter import Masters

_FILE = "checkpoint/state.safetensors"


def save(folder: Path, step: int, masters: "Masters", optimiser: "torch.optim.Optimizer") -> None:
    """Write the state after `step` steps, in place of the one before, whole or not at all."""
    import torch
    from safetensors.torch import save_file

    tensors = {"random": torch.get_rng_state()}
    for name, parameter in masters.items():
        moments = optimiser.state[parameter]
        tensors[f"weight:{name}"] = parameter.detach().cpu()
        tensors[f"first:{name}"] = moments["exp_avg"].cpu()
        tensors[f"second:{name}"] = moments["exp_avg_sq"].cpu()
    with files.whole(folder / _FILE) as part:
        save_file(tensors, part, metadata={"step": str(step)})


def load(folder: Path, masters: "Masters", optimiser: "torch.optim.Optimizer") -> int:
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
        with safe_open(path, framework="pt") as file, torch.no_grad():
            step = int(file.metadata()["step"])
            for name, parameter in masters.items():
                parameter.copy_(file.get_tensor(f"weight:{name}"))
                optimiser.state[parameter] = {
                    "step": torch.tensor(float(step)),
                    "exp_avg": file.get_tensor(f"first:{name}").to(parameter.device),
                    "exp_avg_sq": file.get_tensor(f"second:{name}").to(parameter.device),
                }
            torch.set_rng_state(file.get_tensor("random"))
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise LabError(f"{path} is not a checkpoint of this run ({error}); delete it to begin anew") from error
    return step


def delete(folder: Path) -> None:
    """Remove the checkpoint, if there is one."""
    shutil.rmtree((folder / _FILE).parent, ignore_errors=True)

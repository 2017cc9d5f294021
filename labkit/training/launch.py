"""The same recipe in several processes: on one machine through Accelerate's launcher, on several through torchrun.

Every process runs `labkit.training.launched` on the recipe's file and takes its share of each batch (`world`). On several machines,
start on each of them, with its own --node-rank and the first one's HOST:

    torchrun --nnodes 2 --node-rank 0 --nproc-per-node 4 --rdzv-endpoint HOST:PORT -m labkit.training.launched recipe.toml

or, which is the same,

    accelerate launch --multi_gpu --num_machines 2 --machine_rank 0 --num_processes 8 --main_process_ip HOST --main_process_port PORT \\
        --mixed_precision no --dynamo_backend no --module labkit.training.launched recipe.toml

The runs folder (LABKIT_RUNS) must be one that all of them see: the first process writes checkpoints there, and all go on from them. Recipe
and data may be copies; what the frozen layers gave (LABKIT_CACHE) may be each machine's own.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from labkit import runs
from labkit.errors import LabError
from labkit.training import recipe as recipes
from labkit.training.recipe import Recipe
from labkit.training.watching import trackers as tracking

LAUNCHERS = ("accelerate",)


def check(launcher: str) -> None:
    """LabError for a launcher that there is not."""
    if launcher not in LAUNCHERS:
        raise LabError(f"--launcher must be none or {', '.join(LAUNCHERS)}, not {launcher!r}")


def command(recipe_file: os.PathLike, arguments: list[str], processes: int) -> list[str]:
    """The command line that starts so many processes on this machine."""
    # `--multi_gpu` is the launcher that starts several processes through torchrun; `--cpu` would want MPI for more than one.
    kind = ["--multi_gpu"] if processes > 1 else []
    return [sys.executable, "-m", "accelerate.commands.launch", *kind, "--num_processes", str(processes), "--num_machines", "1",
            "--mixed_precision", "no", "--dynamo_backend", "no", "--module", "labkit.training.launched", str(recipe_file), *arguments]


def run(recipe: Recipe, source: str | None = None, data: str | None = None, processes: int = 1, trackers: Sequence[str] = (),
        language: str = "en") -> None:
    """Train a recipe in so many processes, and wait for them.

    Args:
        trackers, language: where the first process sends figures and in which language it shows them.

    Raises:
        LabError: there is no such tracker, or training ended otherwise than well; the processes have said why.
    """
    for name in trackers:
        tracking.make(name)
    folder = runs.folder_for(recipe.scenario, recipe.name)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / "launch.toml"
    recipes.write(recipe, wanted)
    arguments = [*(["--source", source] if source else []), *(["--data", data] if data else []), "--language", language,
                 *(word for name in trackers for word in ("--track", name))]
    threads = max(1, (os.cpu_count() or 1) // processes)
    import torch

    settings = {"OMP_NUM_THREADS": str(threads), **({} if torch.cuda.is_available() else {"ACCELERATE_USE_CPU": "true"})}
    started = subprocess.Popen(command(wanted, arguments, processes), env={**settings, **os.environ})
    try:
        code = started.wait()
    except KeyboardInterrupt:  # the processes got it too, and stop after their step
        started.send_signal(signal.SIGINT)
        code = started.wait()
    finally:
        wanted.unlink(missing_ok=True)
    if code:
        raise LabError(f"run {recipe.scenario}/{recipe.name}: training in {processes} processes ended with exit code {code}; what they "
                       "said is above")

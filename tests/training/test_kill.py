"""Trainings that are really killed, run out of disk or memory, or meet what is no number, each in a process of its own.

The processes are forked from one that has imported everything (Python's forkserver), so that none pays for it again.
"""

import ctypes
import functools
import json
import math
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from labkit import records, runs, scenarios
from labkit.errors import LabError
from labkit.training import chat, chat_plain, encoders, trainer  # noqa: F401  (the forkserver imports them by this file)
from labkit.training import recipe as recipes
from labkit.training.recipe import Recipe
from tests.conftest import save_tiny
from tests.training.tasks import tiny

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload([__name__, "peft", "transformers.models.llama.modeling_llama", "transformers.models.bert.modeling_bert"])


@pytest.fixture(scope="module")
def wide_base(tmp_path_factory):
    """Of each layer, 4 x 1536 numbers a token stay for the gradient."""
    return save_tiny(tmp_path_factory.mktemp("tiny") / "wide", intermediate_size=1536)


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    return tiny.save_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture()
def kept(tmp_path, small_records, small_scenario):
    """Records and scenario as files, for other processes."""
    records.write(small_records, tmp_path / "records.jsonl")
    scenarios.write(small_scenario, tmp_path / "scenario.toml")
    return tmp_path


def train(recipe, kept, environment, limit=None, output=None):
    """What a child does: train as the command would, with what it says in the file `output`; exit code 2 after a LabError. `limit`:
    called first, to make the machine smaller."""
    os.environ.update(environment)
    if output:
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), 1)
    torch.set_num_threads(1)
    scenario = scenarios.read(kept / "scenario.toml")
    rows = records.read(kept / "records.jsonl", scenario)
    if limit:
        limit()
    try:
        trainer.train(recipe, rows, scenario)
    except LabError as error:
        print(error, flush=True)
        sys.exit(2)


def start(recipe, kept, **more):
    environment = {name: value for name, value in os.environ.items() if name.startswith("LABKIT_")}
    process = _FORKED.Process(target=train, args=(recipe, kept, environment), kwargs=more)
    process.start()
    return process


def trained(recipe, kept, **more):
    """The run, trained to its end in a process of its own."""
    process = start(recipe, kept, **more)
    process.join(120)
    assert process.exitcode == 0
    return run_of(recipe)


def complaint(recipe, kept, tmp_path, **more):
    """What a training that cannot go on says."""
    process = start(recipe, kept, output=tmp_path / "said", **more)
    process.join(120)
    assert process.exitcode == 2
    return (tmp_path / "said").read_text().strip()


def run_of(recipe):
    return runs.Run(runs.folder_for(recipe.scenario, recipe.name))


def rows_seen(run):
    path = run.folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def weights_of(run):
    return load_file(run.weights_path)


def far(one, other):
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def told(run):
    """What a run says of its steps, without times and memory."""
    return [{key: value for key, value in row.items() if key not in ("seconds", "tokens_per_second", "memory_gb")} for row in run.metrics()]


# kill -9


@pytest.mark.parametrize("kind", ["lora", "full", "encoder", "everything"])
def test_a_training_that_is_killed_again_and_again_ends_in_the_same_weights_and_rows(kind, tiny_base, tiny_bert, kept):
    common = {"scenario": "small", "base": tiny_base, "layers": 2, "rank": 4, "batch_size": 2, "epochs": 8, "precision": "fp32",
              "checkpoint_steps": 7}
    changes = {
        "lora": {"dropout": 0.1},
        "full": {"method": "full", "checkpoint_steps": 3, "epochs": 4},
        "encoder": {"base": tiny_bert, "task": "classify", "method": "full", "weight_decay": 0.01},
        "everything": {"optimiser": "muon", "ema": 0.9, "patience": 30, "evaluate_steps": 2, "neftune": 5.0, "dropout": 0.1},
    }[kind]
    recipe = lambda name: Recipe(**{**common, **changes, "name": name})  # noqa: E731
    whole, killed = trained(recipe("whole"), kept), run_of(recipe("killed"))
    steps = len(whole.metrics())
    for wanted in (steps // 8, steps // 2, steps - 2):  # before the first checkpoint, half-way, shortly before the end
        process = start(recipe("killed"), kept)
        until = time.monotonic() + 60
        while rows_seen(killed) < wanted and process.is_alive() and time.monotonic() < until:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL and killed.state() == "stopped"
    trained(recipe("killed"), kept)
    assert killed.weights_sha256() == whole.weights_sha256()
    assert told(killed) == told(whole)
    assert not list(killed.folder.rglob("*.part")) and not (killed.folder / "checkpoint").exists()


# memory


def with_less_memory(spare):
    """Let this process map `spare` bytes more than it has now, and tell of each time that torch finds no memory."""
    from labkit.training.watching import memory

    # The limit counts addresses, not memory: no thread may reserve 64 MB for itself (M_ARENA_MAX), and what is freed must not stay a hole
    # in the heap (M_MMAP_THRESHOLD).
    ctypes.CDLL(None).mallopt(-8, 1)
    ctypes.CDLL(None).mallopt(-3, 1 << 16)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + spare,) * 2)
    asked = memory.is_out_of_memory

    def heard(error):
        print(f"no memory: {error}", flush=True)
        return asked(error)

    memory.is_out_of_memory = heard


@pytest.mark.skipif(sys.platform != "linux", reason="NO LIMIT ON MEMORY: only Linux keeps to RLIMIT_AS")
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_step_for_which_memory_does_not_suffice_goes_on_in_smaller_parts_to_the_same_weights(method, wide_base, kept, tmp_path):
    """How much a step needs depends on the processor's kernels: less and less is given until it does not suffice."""
    rows = [records.make("small", "en", [{"role": "user", "content": f"fruit number {number}, " + "round and red " * 30}],
                         {"kind": "pear", "weight": 9.5, "note": "none"}, source="test", license="CC0-1.0", split="train")
            for number in range(16)]
    records.write(records.from_list(rows), kept / "records.jsonl")
    recipe = lambda name: Recipe(scenario="small", name=name, base=wide_base, method=method, layers=0, rank=4, batch_size=16, epochs=2,  # noqa: E731
                                 micro_tokens=100_000, optimiser="sgd", learning_rate=0.05, precision="fp32", token_drop=0.0)
    plain = trained(recipe("plain"), kept)
    for spare in range(250_000_000, 0, -25_000_000):
        tight = trained(recipe(f"tight-{spare}"), kept, limit=functools.partial(with_less_memory, spare), output=tmp_path / "said")
        if "no memory: [enforce fail at alloc_cpu.cpp" in (tmp_path / "said").read_text():
            break
    else:
        pytest.fail("memory sufficed however little there was")
    assert far(weights_of(plain), weights_of(tight)) < 1e-6
    assert [row["loss"] for row in tight.metrics()] == pytest.approx([row["loss"] for row in plain.metrics()], abs=1e-5)


# the disk


FULL_DISK = """
    import json, subprocess, sys
    from pathlib import Path
    from tests.training.test_kill import *
    kept, disk = Path(sys.argv[1]), sys.argv[2]
    recipe = recipes.read(kept / "recipe.toml")
    found = {}
    try:
        train_here(recipe, kept)
    except LabError as error:
        found["said"] = str(error)
    folder = run_of(recipe).folder
    found["left"] = sorted(path.name for path in (folder / "checkpoint").iterdir())
    found["steps"] = rows_seen(run_of(recipe))
    subprocess.run(["mount", "-o", "remount,size=500m", disk], check=True)  # somebody frees some space
    train_here(recipe, kept)
    print(json.dumps({**found, "weights": run_of(recipe).weights_sha256(), "told": told(run_of(recipe))}))
    """


def train_here(recipe, kept):
    torch.set_num_threads(1)
    scenario = scenarios.read(kept / "scenario.toml")
    return trainer.train(recipe, records.read(kept / "records.jsonl", scenario), scenario)


def test_a_full_disk_leaves_the_last_checkpoint_and_the_training_goes_on_once_there_is_space(tiny_base, kept, tmp_path):
    """A disk of 100 MB, and checkpoints of 58: 4.8 million weights with two moments each."""
    recipe = Recipe(scenario="small", name="run", base=tiny_base, method="full", batch_size=2, epochs=2, precision="fp32",
                    checkpoint_steps=2)
    whole = trained(recipe, kept)
    recipes.write(recipe, kept / "recipe.toml")
    disk = tmp_path / "disk"
    disk.mkdir()
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "x", disk]).returncode:
        pytest.skip("NO DISK CAN BE MOUNTED HERE (unshare -rm): the full disk was not tried")
    shell = f"mount -t tmpfs -o size=100m x {disk} && exec {sys.executable} -c '{textwrap.dedent(FULL_DISK)}' {kept} {disk}"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", shell], cwd=ROOT, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "LABKIT_RUNS": str(disk)})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert "state.safetensors: " in found["said"] and "No space left on device" in found["said"]
    assert "the checkpoint before it is whole" in found["said"]
    assert "\n" not in found["said"] and found["left"] == ["state.safetensors"] and found["steps"] == 4
    assert found["weights"] == whole.weights_sha256() and found["told"] == told(whole)


def with_small_files(most):
    """Let this process write no file of more than `most` bytes: a write that fails as it does on a full disk, where none can be mounted."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


@pytest.mark.parametrize("what", ["checkpoint/state.safetensors", "model", "checkpoint/best.safetensors"])
def test_a_file_that_cannot_be_written_is_named_and_nothing_half_written_stays(what, tiny_base, kept, tmp_path):
    """10 MB do neither for a checkpoint (58) nor for the weights alone (19)."""
    changes = {"checkpoint/state.safetensors": {"checkpoint_steps": 2}, "model": {}, "checkpoint/best.safetensors": {"patience": 1}}[what]
    recipe = Recipe(**{"scenario": "small", "base": tiny_base, "method": "full", "batch_size": 8, "epochs": 2, "precision": "fp32",
                       "checkpoint_steps": 100, **changes})
    said = complaint(recipe, kept, tmp_path, limit=functools.partial(with_small_files, 10_000_000))
    assert f"/small/default/{what}" in said and "File too large" in said and "free some space" in said and "\n" not in said
    assert run_of(recipe).state() == "stopped" and not list(run_of(recipe).folder.rglob("*.part"))
    assert trained(recipe, kept).state() == "done"


# what is no number


def with_a_hole(base, folder, tensor):
    """The base with one number of one weight that is none."""
    shutil.copytree(base, folder)
    weights = load_file(folder / "model.safetensors")
    weights[tensor].view(-1)[3] = math.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


@pytest.mark.parametrize("kind", ["full", "lora", "encoder"])
def test_a_base_with_a_weight_that_is_no_number_is_named_before_anything_is_learned(kind, tiny_base, tiny_bert, kept, tmp_path):
    base, tensor = tiny_base, "model.layers.3.mlp.up_proj.weight"
    if kind == "encoder":
        base, tensor = tiny_bert, "encoder.layer.1.output.dense.weight"
    recipe = Recipe(scenario="small", base=with_a_hole(base, tmp_path / "hole", tensor), method="lora" if kind == "lora" else "full",
                    layers=2, task="classify" if kind == "encoder" else "chat", batch_size=4, precision="fp32")
    said = complaint(recipe, kept, tmp_path)
    assert tensor in said and "\n" not in said


def test_a_learning_rate_that_is_far_too_high_stops_and_keeps_the_last_sound_state(tiny_base, kept, tmp_path):
    recipe = Recipe(scenario="small", base=tiny_base, method="full", optimiser="sgd", learning_rate=0.9, clip=0.0, warmup=0.0, batch_size=2,
                    epochs=10, precision="fp32", checkpoint_steps=1000)
    said = complaint(recipe, kept, tmp_path)
    assert "not a number at step" in said or "the loss runs away" in said
    assert "Lower learning_rate (0.9)" in said and "state before this step is kept" in said
    with safe_open(run_of(recipe).folder / "checkpoint" / "state.safetensors", framework="pt") as file:
        assert int(file.metadata()["step"]) == rows_seen(run_of(recipe)) > 0
        assert all(torch.isfinite(file.get_tensor(name)).all() for name in file.keys() if name.startswith("weight:"))  # noqa: SIM118

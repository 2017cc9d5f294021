"""Layers divided among two processes: the same steps as in one, and whole tensors there and back."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.training import sharding

SCRIPT = '''
import json, math, sys
from labkit import process
process.prepare()
import torch
from labkit.training import methods, optimisers, sharding, world
from labkit.training.recipe import Recipe
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)
together = world.joined()
recipe = Recipe(scenario="small", method=sys.argv[2], layers=0, rank=4, shard=True)
torch.manual_seed(1)
model = methods.apply(AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32), recipe, 0)
if together.size > 1:
    sharding.shard(methods.layers(model), together)
learns = {name: value for name, value in model.named_parameters() if value.requires_grad}
optimiser = optimisers.build("adamw", sharding.by_kind([{"params": list(learns.items()), "faster": 1.0}]), 1e-3, weight_decay=0.01)
generator = torch.Generator().manual_seed(0)
texts = torch.randint(3, 90, (5, 12), generator=generator)
found = {"losses": [], "norms": []}
for step in range(4):
    shares = [[[row] for row in list(range(5))[rank :: together.size]] for rank in range(together.size)]
    total = 0.0
    for rows, counts in sharding.evenly(shares, together.rank):
        states = methods.inner(model).get_decoder()(input_ids=texts[rows], use_cache=False).last_hidden_state
        scores = methods.inner(model).get_output_embeddings()(states[:, :-1])
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), texts[rows][:, 1:].flatten(), reduction="sum") / 55
        (loss * counts).backward()
        total += loss.item() * counts
    together.add_up(value.grad for value in learns.values() if value.grad is not None and not sharding.is_divided(value.grad))
    found["losses"].append(together.total(total))
    found["norms"].append(sharding.clip(learns.values(), 1.0))
    optimiser.step()
    optimiser.zero_grad()
weights = {name: sharding.whole(value.detach()).clone() for name, value in learns.items()}
found["sums"] = {name: value.double().sum().item() for name, value in weights.items()}
found["shares"] = sum(sharding.is_divided(value) for value in learns.values())
for name, value in learns.items():
    sharding.put(value, weights[name] + 1)
found["there_and_back"] = all(torch.equal(sharding.whole(value.detach()), weights[name] + 1) for name, value in learns.items())
if together.is_first:
    print(json.dumps(found))
world.leave(together)
'''


def run(base, method, processes):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    file = Path(base).parent / "sharded.py"
    file.write_text(SCRIPT)
    done = subprocess.run([sys.executable, *launcher, str(file), base, method], capture_output=True, text=True, timeout=120,
                          cwd=Path(__file__).resolve().parents[2], env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "."})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_two_processes_with_a_half_of_each_layer_take_the_same_steps_as_one(tiny_base, method):
    """Five texts: one process has a part more than the other."""
    alone, divided = run(tiny_base, method, 1), run(tiny_base, method, 2)
    assert alone["shares"] == 0 < divided["shares"]
    assert divided["losses"] == pytest.approx(alone["losses"], abs=1e-5) and alone["losses"][-1] < alone["losses"][0]
    assert divided["norms"] == pytest.approx(alone["norms"], rel=1e-4)
    assert divided["sums"] == pytest.approx(alone["sums"], abs=2e-2)  # of up to two million weights
    assert divided["there_and_back"]


def test_every_process_runs_as_many_parts_and_what_is_run_for_nothing_counts_nothing():
    parts = [[[0, 2], [4]], [[1, 3]], []]
    runs = [sharding.evenly(parts, rank) for rank in range(3)]
    assert [len(each) for each in runs] == [2, 2, 2]
    assert sorted(row for each in runs for rows, counts in each if counts for row in rows) == [0, 1, 2, 3, 4]


def test_gradients_that_are_not_divided_are_clipped_as_torch_does():
    import torch

    torch.manual_seed(0)
    ours, theirs = ([torch.nn.Parameter(torch.zeros(3, 4)), torch.nn.Parameter(torch.zeros(5))] for _ in range(2))
    for one, other in zip(ours, theirs, strict=True):
        one.grad = torch.randn_like(one)
        other.grad = one.grad.clone()
    assert sharding.clip(ours, 0.5) == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, 0.5).item(), rel=1e-6)
    assert all(torch.allclose(one.grad, other.grad) for one, other in zip(ours, theirs, strict=True))
    assert sharding.clip(ours, math.inf) == pytest.approx(0.5, rel=1e-5)

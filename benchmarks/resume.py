"""Whether a training that is killed ends in the same weights as one that is not.

One training runs without interruption; then the same recipe under ten other names, each killed with SIGKILL at a moment drawn at
random over the length of the first (loading, frozen layers, steps, checkpoints alike), and gone on with until it is finished.
The adapters' sha256 are compared.

    .venv/bin/python benchmarks/resume.py [--quick] [--kills 10] [--seed 0]
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def train(name: str, steps: int) -> None:
    """Train in this process: the first scenario's samples, the embedded base."""
    from labkit import records, scenarios
    from labkit.training import trainer
    from labkit.training.recipe import Recipe

    scenario = scenarios.load(scenarios.names()[0])
    data = records.samples(scenario)
    data = data.filter(lambda split: split == "train", input_columns=["split"]).select(range(96))
    trainer.train(Recipe(scenario=scenario.name, name=name, max_steps=steps, checkpoint_steps=5, dropout=0.05), data, scenario)


def adapter_hash(folder: Path) -> str:
    return json.loads((folder / "manifest.json").read_text())["adapter"]["sha256"]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="one kill of a short training")
    arguments.add_argument("--kills", type=int, default=10)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--train", help=argparse.SUPPRESS)
    arguments.add_argument("--steps", type=int, default=30, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.train:
        train(chosen.train, chosen.steps)
        return
    from labkit import models, places, process, scenarios

    process.prepare()
    models.resolve()
    kills, steps = (1, 6) if chosen.quick else (chosen.kills, chosen.steps)
    draw = random.Random(chosen.seed)
    found = []
    with tempfile.TemporaryDirectory() as work:
        cache = Path(work) / "cache"
        cache.mkdir()
        (cache / "models").symlink_to(places.cache_folder() / "models")
        environment = {**os.environ, "LABKIT_RUNS": f"{work}/runs", "LABKIT_CACHE": str(cache)}
        runs = Path(work) / "runs" / scenarios.names()[0]

        def start(name: str) -> subprocess.Popen:
            return subprocess.Popen([sys.executable, __file__, "--train", name, "--steps", str(steps)], env=environment,
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        began = time.perf_counter()
        if start("whole").wait():
            raise SystemExit("the uninterrupted training failed")
        seconds = time.perf_counter() - began
        want = adapter_hash(runs / "whole")
        for kill in range(kills):
            after = draw.uniform(0.1, 0.98) * seconds
            process = start(f"killed{kill}")
            try:
                process.wait(after)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
            process.wait()
            metrics = runs / f"killed{kill}" / "metrics.jsonl"
            seen = metrics.read_text().count("\n") if metrics.exists() else 0
            ended = process.returncode == 0
            if not ended and start(f"killed{kill}").wait():
                raise SystemExit(f"going on after kill {kill} failed")
            same = adapter_hash(runs / f"killed{kill}") == want
            found.append({"killed_after_s": round(after, 2), "steps_seen": seen, "ended_before_the_kill": ended, "identical": same})
            print(f"kill {kill}: after {after:5.1f} s at step {seen:3d}: {'identical' if same else 'DIFFERENT'}", flush=True)
    print(json.dumps({"claims": {"identical_after_kill": sum(row["identical"] for row in found)},
                      "detail": {"kills": kills, "steps": steps, "uninterrupted_s": round(seconds, 1), "moments": found}}))


if __name__ == "__main__":
    main()

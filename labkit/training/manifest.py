"""What a finished run is made of, written last, so that its existence means the run is complete."""

from datetime import UTC, datetime
from typing import Any

from labkit import __version__, files
from labkit.models import BaseModel
from labkit.runs import Run
from labkit.training import checkpoint
from labkit.training.precision import best_precision
from labkit.training.recipe import Recipe


def finish(run: Run, recipe: Recipe, base: BaseModel, written: list[str], data: dict[str, Any], started: datetime,
           prepare_seconds: float = 0.0, kept_step: int | None = None) -> None:
    """Write the manifest of a run whose weights lie in its folder, and remove what only an unfinished training needs.

    Args:
        written: the files with what was learned, relative to the run's folder; the adapter's (or the model's) weights among them.
        data: what it learned from: fingerprint, sources, licences, records by split.
        kept_step: the step whose weights were kept, where that is not the last one; what was measured there is told.
    """
    import torch

    folder = run.folder
    rows = run.metrics()
    counted = [name for name in ("recipe.toml", "scenario.toml") if (folder / name).exists()] + written
    digests = {name: files.sha256_of(folder / name) for name in counted}
    told = [row for row in rows if kept_step is None or row["step"] == kept_step]
    last = lambda key: next((row[key] for row in reversed(told) if key in row), None)  # noqa: E731
    files.write_json(folder / "manifest.json", {
        "format": 1,
        "run": run.key,
        "task": recipe.task,
        "base": {"name": base.name, "sha256": base.sha256},
        **_weights(digests),
        "files": digests,
        "data": data,
        "training": {"steps": rows[-1]["step"], "loss": rows[-1]["loss"], "seconds": rows[-1]["seconds"],
                     "prepare_seconds": round(prepare_seconds, 3), "validation_loss": last("validation_loss"),
                     "validation": last("validation"), **({"kept_step": kept_step} if kept_step is not None else {}),
                     "precision": "bfloat16" if best_precision(recipe.precision) == "bf16" else "float32",
                     "device": "cuda" if torch.cuda.is_available() else "cpu"},
        "seed": recipe.seed,
        "versions": versions(),
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    })
    checkpoint.delete(folder)
    (folder / "begun.json").unlink(missing_ok=True)


def _weights(digests: dict[str, str]) -> dict[str, Any]:
    """The sha256 of the adapter's weights, or of the model's (over its files' hashes where there are several)."""
    import hashlib

    if adapter := digests.get("adapter/adapter_model.safetensors"):
        return {"adapter": {"sha256": adapter}}
    weights = sorted(digest for name, digest in digests.items() if name.endswith(".safetensors"))
    return {"model": {"sha256": weights[0] if len(weights) == 1 else hashlib.sha256("\n".join(weights).encode()).hexdigest()}}


def versions() -> dict[str, str]:
    """The versions that a run's weights depend on."""
    import peft
    import torch
    import transformers

    return {"labkit": __version__, "torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}

"""Records to Argilla and back, in one place: `connect`, `push`, `pull`, and how far the labelling is (`progress`)."""

from typing import Any

from labkit.labeling import remote
from labkit.labeling.connection import Connection, connect
from labkit.labeling.pull import Change, Pulled, majority, pull
from labkit.labeling.push import Conflict, Pushed, Refusal, push
from labkit.scenarios import Scenario

__all__ = ["Change", "Conflict", "Connection", "Pulled", "Pushed", "Refusal", "connect", "majority", "progress", "pull", "push"]


def progress(scenario: Scenario, server: Connection | None = None, *, dataset: str | None = None,
             workspace: str | None = None) -> dict[str, Any]:
    """How far a dataset is, as the server has it now: `records`, `completed` (as many answers as were asked for), `pending`, and `users`:
    responses by annotator (`username`, `submitted`, `draft`, `discarded`).

    Raises:
        LabError: the server does not answer or has no such dataset.
    """
    if server is None:
        with connect() as server:
            return progress(scenario, server, dataset=dataset, workspace=workspace)
    there = remote.find(server, dataset or scenario.name, workspace)
    found = server.get(f"datasets/{there.id}/progress")
    return {"records": found["total"], "completed": found["completed"], "pending": found["pending"],
            "users": remote.progress(server, there)}

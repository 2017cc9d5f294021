"""How a process of the lab behaves towards the network and the machine's cores: set before torch or transformers is imported."""

import os


def prepare() -> None:
    """Keep the hub's client from asking the network unless `LABKIT_ONLINE=1`, and let idle threads sleep.

    What the environment says already stays.
    """
    if os.environ.get("LABKIT_ONLINE") != "1":
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
            os.environ.setdefault(name, "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # A thread that waits for the others would spin, and take the core from whatever else is at work.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")

"""Each benchmark's smoke run: it ends well and its last line holds its claims."""

import json
import subprocess
import sys

import pytest

from labkit import places

CLAIMS = {
    "train_speed": {"train_ratio_vs_trl", "heldout_loss_ratio", "train_ratio_vs_trl_tuned", "matmul_share"},
    "chat_speed": {"two_pane_ratio_vs_transformers", "ttft_ms", "ttft_cold_ms"},
    "resume": {"identical_after_kill"},
    "privacy": {f"{claim}_{language}" for language in ("en", "zh") for claim in (
        "structured_recall", "structured_precision", "name_recall", "name_precision", "recall_gain_vs_presidio")},
    "prepare_speed": {"prepare_ratio_vs_plain", "peak_gb", "near_duplicate_recall", "near_duplicate_precision", "scaling_exponent"},
    "labelling": {"p95_ms_10k", "p95_ms_100k", "server_gb", "log_records_per_s"},
    "label_cost": {"labels_saved", "flipped_found"},
    "banking77": {"full_accuracy", "ten_shot_contrastive", "ten_shot_gain_over_cross_entropy"},
    "pubmedqa": {"pubmedqa_accuracy"},
    "german_credit": {"text_auc", "columns_auc"},
    "multitask": {"fields_better_multitask", "fields_worse_multitask", "fields_compared"},
}
MAY_BE_NOTHING = {"labels_saved",  # on the few sample records, where the public data is not at hand
                  "ten_shot_gain_over_cross_entropy",  # two epochs teach neither
                  "fields_better_multitask", "fields_worse_multitask"}


@pytest.mark.slow
@pytest.mark.parametrize("name", CLAIMS)
def test_the_smoke_run_prints_its_claims(name):
    done = subprocess.run([sys.executable, places.ROOT / "benchmarks" / f"{name}.py", "--quick"], capture_output=True, text=True,
                          timeout=500)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found["claims"]) == CLAIMS[name] and found["detail"]
    assert all(value > 0 for claim, value in found["claims"].items() if claim not in MAY_BE_NOTHING)
    if name == "resume":
        assert found["claims"]["identical_after_kill"] == found["detail"]["kills"]

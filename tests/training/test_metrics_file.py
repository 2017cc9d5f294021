"""metrics.jsonl after a machine was switched off within a row."""

import json

from labkit import runs
from labkit.training import metrics_file


def test_a_row_that_ends_within_a_character_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": step, "seconds": float(step), "answers": ["很好"]} for step in (1, 2, 3)]
    whole = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    cut = whole[: whole.rindex("好".encode()) + 1]
    path.write_bytes(cut)
    assert runs.Run(tmp_path).metrics() == rows[:2]
    assert metrics_file.rewind(path, 5) == rows[:2]
    assert path.read_bytes() == whole[: whole.index(b"\n", whole.index(b"\n") + 1) + 1]
    assert metrics_file.rewind(path, 1) == rows[:1] and runs.Run(tmp_path).metrics() == rows[:1]
    assert metrics_file.rewind(tmp_path / "none.jsonl", 1) == []

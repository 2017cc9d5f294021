"""The trained weights on disk, as JSON: `weights.en.json`, whose features and words are crc32 sums of their letters, and `weights.zh.json`.

JSON and not safetensors, so that the detector loads without numpy.
"""

import json
from functools import cache
from pathlib import Path

from labkit import files
from labkit.data.privacy.name_model import chinese, english

FOLDER = Path(__file__).parent
SCALE = 50.0  # weights are kept in steps of 1/50


def write(language: str, reader: english.Reader | chinese.Reader) -> None:
    """Write a trained reader."""
    if language == "zh":
        kept = {"weights": {key: round(value * SCALE) for key, value in sorted(reader.weights.items())}}
    else:
        kept = {"steps": [[round(value, 3) for value in row] for row in reader.steps],
                "words": sorted(reader.vocabulary.buckets.items()), "known": sorted(reader.vocabulary.features),
                "weights": [[key, round(begins * SCALE), round(goes_on * SCALE)]
                            for key, (begins, goes_on) in sorted(reader.weights.items())]}
    files.write_text(FOLDER / f"weights.{language}.json", json.dumps(kept, ensure_ascii=False, separators=(",", ":")) + "\n")


@cache
def read(language: str) -> english.Reader | chinese.Reader:
    """The trained reader of a language, read once."""
    kept = files.read_json(FOLDER / f"weights.{language}.json")
    if language == "zh":
        return chinese.Reader({key: value / SCALE for key, value in kept["weights"].items()}, chinese.common_pairs())
    weights = {key: (begins / SCALE, goes_on / SCALE) for key, begins, goes_on in kept["weights"]}
    return english.Reader(weights, kept["steps"], english.Vocabulary(dict(kept["words"]), set(kept["known"])))

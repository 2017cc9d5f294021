"""The embedded base as llama.cpp loads it: made once, tied to its source by hashes, and close to it."""

import hashlib
import multiprocessing

import numpy as np
import pytest

from labkit import models, places
from labkit.errors import LabError
from labkit.serving import weights


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache folder of its own, with the dequantised base of the shared one."""
    base = models.resolve()
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    return base


def test_a_slow_format_is_made_anew_once_and_stands_for_its_source(own_cache):
    path = weights.for_llamacpp(own_cache)
    assert path.parent.parent == places.cache_folder() and path != own_cache.gguf
    before = path.stat()
    assert weights.for_llamacpp(own_cache) == path and path.stat().st_ino == before.st_ino
    assert weights.source_of(path, own_cache) == own_cache.sha256 == hashlib.sha256(own_cache.gguf.read_bytes()).hexdigest()


def test_each_weight_is_within_half_a_step_of_its_source(own_cache):
    from gguf import GGUFReader, dequantize

    made = {tensor.name: tensor for tensor in GGUFReader(weights.for_llamacpp(own_cache)).tensors}
    for tensor in GGUFReader(own_cache.gguf).tensors[:12]:
        old, new = (dequantize(each.data, each.tensor_type) for each in (tensor, made[tensor.name]))
        if new.ndim == 2:
            blocks = old.reshape(-1, 32)
            step = np.abs(blocks).max(1, keepdims=True) / 127  # Q8_0: 32 weights share a float16 scale
            assert (np.abs(new.reshape(-1, 32) - blocks) <= 0.5 * step * 1.01 + 127 * step * 2.0**-11).all()
        else:
            assert np.array_equal(old, new)


def test_a_file_that_was_altered_is_made_anew_and_stands_for_nothing(own_cache):
    path = weights.for_llamacpp(own_cache)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(LabError, match="does not hold the base model"):
        weights.source_of(path, own_cache)
    again = weights.for_llamacpp(own_cache)
    assert weights.source_of(again, own_cache) == own_cache.sha256


def test_a_fast_format_is_loaded_as_it_is(tiny):
    assert weights.for_llamacpp(tiny) == tiny.gguf


def test_processes_that_come_at_the_same_time_get_the_same_file(own_cache):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.map(weights.for_llamacpp, [own_cache] * 3)
    assert len(set(found)) == 1 and weights.source_of(found[0], own_cache) == own_cache.sha256


def test_a_cache_that_cannot_be_written_is_a_clear_error(own_cache, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(LabError, match="LABKIT_CACHE"):
        weights.for_llamacpp(own_cache)

"""The check that `make setup` runs on the llama.cpp it compiled."""

import pytest

from labkit.serving import compiled


def test_the_llama_cpp_that_is_installed_runs_on_this_processor():
    assert compiled.problem() is None


@pytest.mark.parametrize("source,says", [
    ("import os, signal\nos.kill(os.getpid(), signal.SIGILL)", "does not run on this processor (signal 4)"),
    ("raise OSError('libggml.so: cannot open shared object file')", "cannot open shared object file"),
])
def test_a_build_that_does_not_run_is_named_and_does_not_end_the_caller(tmp_path, monkeypatch, source, says):
    (tmp_path / "llama_cpp.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert says in compiled.problem()

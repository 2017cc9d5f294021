"""Fixtures for the serving tests."""

import pytest

from tests.serving.tiny import make_base, make_run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A tiny random Llama."""
    return make_base(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def tiny_runs(tiny, tmp_path_factory):
    """Two runs with different adapters on the tiny Llama."""
    folder = tmp_path_factory.mktemp("runs") / "scenario"
    return [make_run(tiny, folder / f"run{seed}", seed) for seed in (1, 2)]


@pytest.fixture(params=["llama.cpp", "transformers"])
def kind(request):
    """Each engine in turn."""
    return request.param


@pytest.fixture
def chat():
    return [{"role": "system", "content": "Answer briefly, and name the day."},
            {"role": "user", "content": "When do you open?"}]

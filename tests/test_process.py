"""How a process behaves: what it says about the machine, and what it leaves of the environment."""

import os

import pytest
import torch

from labkit import process


def test_a_variable_is_set_for_a_while_and_afterwards_as_it_was(monkeypatch):
    monkeypatch.setenv("LABKIT_TEST_HERE", "before")
    monkeypatch.delenv("LABKIT_TEST_ABSENT", raising=False)
    here, absent = (process.environment(name, "within") for name in ("LABKIT_TEST_HERE", "LABKIT_TEST_ABSENT"))
    with pytest.raises(ZeroDivisionError), here, absent:
        assert os.environ["LABKIT_TEST_HERE"] == os.environ["LABKIT_TEST_ABSENT"] == "within"
        1 / 0  # noqa: B018
    assert os.environ["LABKIT_TEST_HERE"] == "before" and "LABKIT_TEST_ABSENT" not in os.environ


@pytest.mark.parametrize(("able", "wanted"), [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_vnni": True}, False)])
def test_the_number_format_follows_from_the_processor(monkeypatch, able, wanted):
    from labkit.serving import transformers_engine
    from labkit.training import precision

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    transformers_engine.best_dtype.cache_clear()
    assert process.multiplies_bf16() is wanted
    assert precision.dtype_of() is transformers_engine.best_dtype() is (torch.bfloat16 if wanted else torch.float32)
    transformers_engine.best_dtype.cache_clear()
    assert precision.dtype_of("fp32") is torch.float32

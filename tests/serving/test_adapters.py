"""PEFT adapters as GGUF: equal to PEFT's own forward pass, refused where they cannot be, kept and renewed."""

import ctypes
import json

import numpy as np
import pytest

from labkit.errors import LabError
from labkit.serving import adapters
from labkit.serving.llamacpp import LlamaCpp
from tests.serving.tiny import make_base, make_run

TOKENS = [1, 80, 90, 33, 70, 61, 44, 120, 200, 7, 9, 30, 31, 32, 64, 65, 66, 99, 100, 2]


def reference_logits(base, run):
    """float32 (vocabulary,) after TOKENS, by transformers and PEFT."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    if run is not None:
        model = PeftModel.from_pretrained(model, run.adapter_folder)
    with torch.inference_mode():
        return model.eval()(torch.tensor([TOKENS])).logits[0, -1].numpy()


def llamacpp_logits(base, run):
    backend = LlamaCpp(base, run)
    try:
        return backend.evaluate(TOKENS, 0, threads=1)
    finally:
        backend.close()


def is_close(found, wanted, base_wanted):
    """Far closer to the wanted logits than the adapter moves them."""
    return np.abs(found - wanted).max() < 0.02 * np.abs(wanted - base_wanted).max()


@pytest.fixture(scope="module", params=["llama", "mistral", "qwen2", "qwen3"])
def shaped(request, tmp_path_factory):
    return make_base(tmp_path_factory.mktemp(request.param), request.param)


def test_llamacpp_with_the_converted_adapter_gives_pefts_logits(shaped, tmp_path):
    run = make_run(shaped, tmp_path / "run")
    without = reference_logits(shaped, None)
    assert is_close(llamacpp_logits(shaped, run), reference_logits(shaped, run), without)
    assert np.abs(llamacpp_logits(shaped, None) - without).max() < 0.02 * without.std() * 10


@pytest.mark.parametrize("changes", [{"use_rslora": True}, {"alpha_pattern": {"q_proj": 12, "layers.1.mlp.up_proj": 1}},
                                     {"rank_pattern": {"k_proj": 2, "down_proj": 8}},
                                     {"use_rslora": True, "rank_pattern": {"v_proj": 2}, "alpha_pattern": {"o_proj": 9}}],
                         ids=["rslora", "alpha-pattern", "rank-pattern", "all"])
def test_every_way_of_scaling_is_kept(tiny, tmp_path, changes):
    run = make_run(tiny, tmp_path / "run", **changes)
    assert is_close(llamacpp_logits(tiny, run), reference_logits(tiny, run), reference_logits(tiny, None))


@pytest.mark.parametrize("changes, says", [({"use_dora": True}, "DoRA"), ({"bias": "all"}, "bias"),
                                           ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
                                           ({"lora_bias": True}, "LoRA bias"),
                                           ({"target_modules": ["embed_tokens"], "layers_to_transform": None,
                                             "layers_pattern": None}, "embed_tokens")])
def test_what_a_gguf_adapter_cannot_express_is_refused(tiny, tmp_path, changes, says):
    run = make_run(tiny, tmp_path / "run", **changes)
    with pytest.raises(LabError, match=says) as error:
        adapters.for_llamacpp(run, tiny)
    assert "transformers" in str(error.value) and "\n" not in str(error.value)
    assert not (run.folder / "serving").exists()


def test_an_architecture_without_a_rule_is_refused():
    with pytest.raises(LabError, match="'gpt2' models cannot be converted"):
        adapters.convert(b"", {"peft_type": "LORA", "lora_alpha": 1}, {"model_type": "gpt2"}, "nowhere.gguf", {})


def test_permuting_interleaves_the_halves_of_each_head():
    rows = np.arange(8)[:, None]  # two heads of width 4
    assert adapters.permuted(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_the_file_is_kept_as_long_as_the_adapter_is_the_same(tiny, tmp_path):
    run = make_run(tiny, tmp_path / "run")
    path = adapters.for_llamacpp(run, tiny)
    before = path.stat()
    assert path.parent == run.folder / "serving" and adapters.for_llamacpp(run, tiny) == path
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_damaged_file_is_made_anew(tiny, tmp_path):
    run = make_run(tiny, tmp_path / "run")
    path = adapters.for_llamacpp(run, tiny)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert adapters.for_llamacpp(run, tiny).read_bytes() == whole


def test_a_new_adapter_gets_a_new_file_and_the_stale_one_goes(tiny, tmp_path):
    old = adapters.for_llamacpp(make_run(tiny, tmp_path / "run", seed=1), tiny)
    new = adapters.for_llamacpp(make_run(tiny, tmp_path / "run", seed=2), tiny)
    assert new != old and list(new.parent.iterdir()) == [new]


def test_the_file_names_the_adapter_and_the_base_it_was_made_from(tiny, tiny_runs):
    import gguf

    fields = gguf.GGUFReader(adapters.for_llamacpp(tiny_runs[0], tiny)).fields
    assert fields["labkit.adapter.sha256"].contents() == tiny_runs[0].manifest()["adapter"]["sha256"]
    assert fields["labkit.base.sha256"].contents() == tiny.sha256


def test_half_an_adapter_is_refused(tiny, tmp_path):
    from safetensors.numpy import load_file, save

    run = make_run(tiny, tmp_path / "run")
    tensors = load_file(run.adapter_folder / "adapter_model.safetensors")
    tensors.pop(next(name for name in tensors if "lora_B" in name))
    config = json.loads((run.adapter_folder / "adapter_config.json").read_text())
    with pytest.raises(LabError, match="lora_A and lora_B"):
        base_config = json.loads((tiny.folder / "config.json").read_text())
        adapters.convert(save(tensors), config, base_config, tmp_path / "a.gguf", {})


def test_llamacpp_itself_reads_the_hash_that_an_engine_reports(tiny, tiny_runs):
    import llama_cpp

    backend = LlamaCpp(tiny, tiny_runs[0])
    text = ctypes.create_string_buffer(100)
    llama_cpp.llama_adapter_meta_val_str(backend._adapter, b"labkit.adapter.sha256", text, 100)
    backend.close()
    assert text.value.decode() == tiny_runs[0].manifest()["adapter"]["sha256"]

"""Tiny random models as safetensors and GGUF with one small tokenizer, and runs with random adapters on them."""

import dataclasses
import hashlib
import json

import numpy as np

from labkit.models import BaseModel, folder_hash
from labkit.runs import Run

TEMPLATE = ("{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
            "{{ message['content'] }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SIZES = {"vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024, "tie_word_embeddings": False,
         "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.12}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def write_tokenizer(folder):
    """All 256 bytes, one merge, three special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: number for number, text in enumerate([*SPECIAL, *letters, "he"])}
    backend = Tokenizer(models.BPE(vocabulary, [("h", "e")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=SPECIAL[0], eos_token=SPECIAL[2],
                                        pad_token=SPECIAL[0], additional_special_tokens=[SPECIAL[1]])
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return vocabulary


def interleaved(rows, heads):
    """llama.cpp's row order, written out: within each head, row i of the first half, then row i of the second."""
    width = len(rows) // heads
    order = [head * width + half * (width // 2) + row
             for head in range(heads) for row in range(width // 2) for half in range(2)]
    return rows[order]


def write_gguf(model, vocabulary, path):
    """A tiny model as an F32 GGUF file, written from the model's own tensors."""
    import gguf

    config = model.config
    name = {"mistral": "llama"}.get(config.model_type, config.model_type)
    architecture = next(number for number, text in gguf.MODEL_ARCH_NAMES.items() if text == name)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    writer = gguf.GGUFWriter(path, name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(width)
    if name == "qwen3":
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    tokens = sorted(vocabulary, key=vocabulary.get)
    tokens += [f"[unused{number}]" for number in range(config.vocab_size - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if text in SPECIAL else 1 for text in tokens])
    writer.add_token_merges(["h e"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    for key, tensor in model.state_dict().items():
        module, kind = key.rsplit(".", 1)
        rows = tensor.float().numpy()
        if name == "llama" and module.endswith(("q_proj", "k_proj")):
            queries = module.endswith("q_proj")
            rows = interleaved(rows, config.num_attention_heads if queries else config.num_key_value_heads)
        writer.add_tensor(f"{names.get_name(module)}.{kind}", np.ascontiguousarray(rows, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_base(folder, kind="llama", seed=0):
    """A tiny random model of this kind as a BaseModel with a GGUF of the same weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    extra = {"head_dim": 16} if kind == "qwen3" else {}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES, **extra), dtype=torch.float32)
    with torch.no_grad():
        for name, tensor in model.named_parameters():  # norms and biases too: what is all ones or zeros hides mistakes
            if "norm" in name or name.endswith("bias"):
                tensor.add_(torch.randn_like(tensor) * 0.1)
    model.save_pretrained(folder)
    vocabulary = write_tokenizer(folder)
    write_gguf(model, vocabulary, folder / "tiny.gguf")
    digest = hashlib.sha256((folder / "tiny.gguf").read_bytes()).hexdigest()
    made = {"gguf": digest, "weights": folder_hash(folder)}
    (folder / "manifest.json").write_text(json.dumps(made))
    return BaseModel(name=f"tiny-{kind}", folder=folder, sha256=digest, gguf=folder / "tiny.gguf")


def make_run(base, folder, seed=1, size=0.2, **changes):
    """A run with a random LoRA adapter on the top two layers; `changes` go into its LoraConfig."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    layers = model.config.num_hidden_layers
    top = list(range(1, layers)) if layers < 10 else list(range(layers - 10, layers))
    settings = {"r": 4, "lora_alpha": 6, "target_modules": TARGETS, "layers_to_transform": top,
                "layers_pattern": "layers"}
    adapted = get_peft_model(model, LoraConfig(**{**settings, **changes}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in adapted.named_parameters():
            if "lora_" in name:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * size)
    adapted.save_pretrained(folder / "adapter")
    return seal(base, folder)


def seal(base, folder):
    """Write the manifest for the files as they are now."""
    listed = {f"adapter/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
              for path in (folder / "adapter").iterdir() if path.suffix in (".json", ".safetensors")}
    made = {"base": {"name": base.name, "sha256": base.sha256}, "files": listed,
            "adapter": {"sha256": listed["adapter/adapter_model.safetensors"]}}
    (folder / "manifest.json").write_text(json.dumps(made))
    return Run(folder)


def without_gguf(base):
    """The same base as if no GGUF were there."""
    return dataclasses.replace(base, gguf=None)

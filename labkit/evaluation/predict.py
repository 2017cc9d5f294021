"""Greedy answers of a base model or a run for many prompts at once, in transformers' own model.

What makes it fast on a processor: the tokens that a group of prompts begins with are run once and attended to by all rows
together; rows of all groups share one batch; keys and values live in buffers that are written in place; a row that has ended
leaves the batch; logits are made for last positions only; an adapter is merged into the weights.
This module knows nothing about scores: it gives texts, and what can be read from them.
"""

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import records as recs
from labkit.errors import LabError
from labkit.models import BaseModel
from labkit.runs import Run
from labkit.scenarios import Scenario, answers
from labkit.training.examples import chat_tokens
from labkit.training.precision import best_precision

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Messages = list[dict[str, str]]
Progress = Callable[[int, int], None]  # (answers finished, answers in all)

ROWS = 128  # a batch; 64 to 128 rows is where bf16 products of a 135M model come near the processor's rate
CACHE_BYTES = 1_200_000_000  # keys and values of a batch; longer prompts make smaller batches
WORKER_ROWS = 24  # the fewest rows for which a batch of its own is worth while
CHUNK_TOKENS = 1024  # prompt tokens that go through the model at once
BLOCK = 32  # places by which the buffers of a batch grow

# Decoders whose attention is plain: softmax(q k / scale + causal mask) over all positions. Others go through `generate`.
PLAIN_ATTENTION = ("llama", "mistral", "qwen2", "qwen3")


def answer_many(base: BaseModel, learned: Path | None, prompts: list[Messages], max_tokens: int | list[int],
                progress: Progress | None = None, precision: str = "auto") -> list[str]:
    """Greedy answers, in the order of the prompts, each ended by the model or cut off after `max_tokens` tokens.

    Args:
        learned: a folder with a PEFT adapter for this base or a whole model (`Run.learned_folder`), or None for the base alone.
        prompts: chats that end where the assistant answers.
        max_tokens: one limit for all prompts, or one for each.
        precision: `auto` (bfloat16 where the machine multiplies it natively, else float32), `bf16` or `fp32`.

    Raises:
        LabError: the base's tokenizer has no chat template, or the template refuses a prompt.
    """
    if not prompts:
        return []
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    tokens = [chat_tokens(tokenizer, messages) for messages in prompts]
    limits = [max_tokens] * len(prompts) if isinstance(max_tokens, int) else list(max_tokens)
    written = generate(load(base, learned, precision), tokens, limits, end_tokens(base, tokenizer), progress)
    return [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in written]


def load(base: BaseModel, learned: Path | None = None, precision: str = "auto") -> "PreTrainedModel":
    """The model ready to answer, on the GPU where there is one; an adapter is merged in float32 before rounding.

    Raises:
        LabError: the adapter is a prefix or a prompt, which no weights can hold.
    """
    import torch
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if best_precision(precision) == "bf16" else torch.float32
    adapted = learned is not None and (learned / "adapter_config.json").exists()
    folder = base.folder if adapted or learned is None else learned
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32 if adapted else dtype)
    if adapted:
        from peft import PeftConfig, PeftModel

        if PeftConfig.from_pretrained(learned).is_prompt_learning:
            raise LabError(f"{learned} holds a learned prefix or prompt, which cannot be merged into the base; choose another method")
        model = PeftModel.from_pretrained(model, learned).merge_and_unload()
    model = model.to("cuda" if torch.cuda.is_available() else "cpu", dtype).eval()
    if model.device.type == "cpu" and dtype == torch.bfloat16:
        _pack(model)
    return model


def _pack(model: "PreTrainedModel") -> None:
    """Keep each linear map's weights in oneDNN's own order too: `linear` puts them into it at every call, which takes a tenth of the
    time with 57 rows and a third with 18. The weights themselves stay, for 270 MB more of a 135M model."""
    import torch

    library = torch.ops.mkldnn
    if not (hasattr(library, "_reorder_linear_weight") and hasattr(library, "_linear_pointwise")):
        return  # another build of PyTorch: the plain way is as right
    for module in model.modules():
        if type(module) is torch.nn.Linear:
            packed = library._reorder_linear_weight(module.weight.detach())
            module.forward = lambda states, packed=packed, bias=module.bias: library._linear_pointwise(states, packed, bias, "none", [], "")


def end_tokens(base: BaseModel, tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    """The tokens that end an answer: the generation config's and the tokenizer's."""
    from transformers import GenerationConfig

    found = {tokenizer.eos_token_id}
    if (base.folder / "generation_config.json").exists():
        said = GenerationConfig.from_pretrained(base.folder).eos_token_id
        found |= set(said if isinstance(said, list) else [said])
    return found - {None}


def generate(model: "PreTrainedModel", prompts: list[list[int]], limits: list[int], ends: set[int],
             progress: Progress | None = None) -> list[list[int]]:
    """Greedy continuations of token ids, in the order of the prompts, without the token that ended them.

    Args:
        prompts: token ids, at least one each; those with the same start of 32 tokens or more share it.
        limits: the most tokens each continuation may have.
        ends: tokens that end a continuation.
    """
    import torch

    report = progress or (lambda done, total: None)
    written: list[list[int]] = [[] for _ in prompts]
    with torch.inference_mode():
        longest = max(len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True))
        if _is_plain(model.config, longest):
            _Decoder(model, prompts, limits, ends, written, report).run()
        else:
            _with_transformers(model, prompts, limits, ends, written, report)
    return written


def predict(records: "Dataset", scenario: Scenario, base: BaseModel, run: Run | None = None,
            progress: Progress | None = None, limits: dict[str, int] | None = None) -> list[dict[str, Any]]:
    """What the base (or the run's fine-tuned model) answers to each record: rows `id`, `text`, `answer`, `complete`.

    Args:
        limits: the most tokens of an answer by language; by default `token_limits` of these records.
    """
    limits = limits or token_limits(records, scenario, base)
    prompts = [recs.prompt(record, scenario) for record in records]
    most = [limits[record["language"]] for record in records]
    texts = answer_many(base, run.learned_folder if run else None, prompts, most, progress)
    return [read_answer(scenario, record["id"], text) for record, text in zip(records, texts, strict=True)]


def read_answer(scenario: Scenario, identity: str, text: str) -> dict[str, Any]:
    """A prediction's row: `answer` holds the fields that could be read, `complete` says whether all could."""
    answer = answers.parse(scenario, text)
    return {"id": identity, "text": text, "answer": answer, "complete": answers.is_complete(scenario, answer)}


def token_limits(records: "Dataset", scenario: Scenario, base: BaseModel) -> dict[str, int]:
    """The most tokens an answer may have, by language: 1.25 times the longest reference answer's, and 8 more.

    A language without a labelled record gets 256. The base and its fine-tuned models get the same.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    longest: dict[str, int] = {}
    for record in records:
        count = len(tokenizer(recs.target(record, scenario), add_special_tokens=False)["input_ids"]) if record["answer"] else 0
        longest[record["language"]] = max(longest.get(record["language"], 0), count)
    return {language: int(count * 1.25) + 8 if count else 256 for language, count in sorted(longest.items())}


def _is_plain(config, longest: int) -> bool:
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    scaling = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    return config.model_type in PLAIN_ATTENTION and (window is None or longest <= window) and scaling in ("default", "linear", "llama3")


def _with_transformers(model, prompts, limits, ends, written, report) -> None:
    """Any decoder: transformers' own `generate`, on left-padded batches of prompts of similar length."""
    import torch

    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    for at in range(0, len(order), 16):
        rows = order[at : at + 16]
        width = max(len(prompts[row]) for row in rows)
        tokens = torch.tensor([[0] * (width - len(prompts[row])) + list(prompts[row]) for row in rows], device=model.device)
        mask = torch.tensor([[0] * (width - len(prompts[row])) + [1] * len(prompts[row]) for row in rows], device=model.device)
        new = model.generate(input_ids=tokens, attention_mask=mask, max_new_tokens=max(limits[row] for row in rows),
                             do_sample=False, num_beams=1, repetition_penalty=1.0, eos_token_id=sorted(ends) or None,
                             pad_token_id=min(ends, default=0))[:, width:].tolist()
        for row, ids in zip(rows, new, strict=True):
            ended = next((place for place, token in enumerate(ids) if token in ends), len(ids))
            written[row][:] = ids[: min(ended, limits[row])]
        report(at + len(rows), len(order))


@dataclass
class _Group:
    """Prompts with a common start. `keys` (layers, heads, size, tokens) and `values` (layers, heads, tokens, size) are that
    start's; its rows stand at `first` up to `last` of the batch."""

    start: list[int]
    prompts: list[int]
    keys: "torch.Tensor | None" = None
    values: "torch.Tensor | None" = None
    first: int = 0
    last: int = 0


@dataclass
class _Batch:
    """Rows that are decoded together. Each row's own tokens (those after its group's start) end at the same place of the
    buffers; `hidden` marks the places before them and those that are not written yet.

    Shapes: keys (layers, rows, heads, size, places), so that a query times the keys needs no transposed copy (half the time
    of the other order here); values (layers, rows, heads, places, size); hidden bool (rows, places). The buffers hold few places
    more than are written: attention looks at all of them, since a part of the keys would be copied at each step.
    """

    keys: "torch.Tensor"
    values: "torch.Tensor"
    hidden: "torch.Tensor"
    groups: list[_Group] = field(default_factory=list)
    rows: slice = field(default_factory=lambda: slice(0, 0))    # the rows at work
    places: slice = field(default_factory=lambda: slice(0, 0))  # where their new tokens are written
    seen: slice = field(default_factory=lambda: slice(0, 0))    # the places they look at
    mask: "torch.Tensor | None" = None  # bool (rows, 1, tokens, places seen), True where they must not look

    def attend(self, layer: int, query: "torch.Tensor", key: "torch.Tensor", value: "torch.Tensor", scale: float) -> "torch.Tensor":
        """Write the new keys and values, then attend to the group's start and the row's own places.

        Shapes: query (rows, query heads, tokens, size), key and value (rows, heads, tokens, size); gives (rows, tokens,
        query heads, size).
        """
        import torch

        self.keys[layer, self.rows, :, :, self.places] = key.transpose(2, 3)
        self.values[layer, self.rows, :, self.places] = value
        keys, values = self.keys[layer, self.rows, :, :, self.seen], self.values[layer, self.rows, :, self.seen]
        rows, query_heads, tokens, size = query.shape
        heads = key.shape[1]
        query = (query * scale).reshape(rows, heads, -1, size)  # a key head's queries side by side
        scores = query @ keys
        scores.view(rows, query_heads, tokens, -1).masked_fill_(self.mask, torch.finfo(scores.dtype).min)
        outputs = []
        for group in self.groups:
            part = slice(max(group.first, self.rows.start) - self.rows.start, min(group.last, self.rows.stop) - self.rows.start)
            if part.start >= part.stop:
                continue
            if not group.start:
                outputs.append(scores[part].softmax(-1) @ values[part])
                continue
            together = query[part].transpose(0, 1).reshape(heads, -1, size)  # all rows' queries against one start
            shared = (together @ group.keys[layer]).view(heads, part.stop - part.start, -1, len(group.start)).transpose(0, 1)
            weights = torch.cat([shared, scores[part]], -1).softmax(-1)
            on_start, on_own = weights.split([len(group.start), scores.shape[-1]], -1)
            on_start = on_start.transpose(0, 1).reshape(heads, -1, len(group.start)) @ group.values[layer]
            on_start = on_start.view(heads, part.stop - part.start, -1, size).transpose(0, 1)
            outputs.append((on_own @ values[part]).add_(on_start))
        merged = torch.cat([output.reshape(-1, query_heads, tokens, size) for output in outputs])
        return merged.transpose(1, 2)

    def step_to(self, place: int, rows: int) -> None:
        """Make ready for one more token of each of the first `rows` rows, at `place`."""
        import torch

        if place == self.hidden.shape[1]:
            pad = torch.nn.functional.pad
            self.keys, self.values = pad(self.keys[:, :rows], (0, BLOCK)), pad(self.values[:, :rows], (0, 0, 0, BLOCK))
            self.hidden = pad(self.hidden[:rows], (0, BLOCK), value=True)
        self.hidden[:rows, place] = False
        self.rows, self.places, self.seen = slice(0, rows), slice(place, place + 1), slice(0, self.hidden.shape[1])
        self.mask = self.hidden[:rows, None, None]

    def copy_row(self, source: int, target: int) -> None:
        """Overwrite one row by another."""
        for buffer in (self.keys, self.values):
            buffer[:, target] = buffer[:, source]
        self.hidden[target] = self.hidden[source]


def _attention(module, query, key, value, attention_mask, scaling, dropout=0.0, *, labkit_batch: _Batch, **kwargs):
    """Transformers' attention interface, answered by the batch at hand."""
    return labkit_batch.attend(module.layer_idx, query, key, value, scaling), None


class _Decoder:
    """Decodes many prompts; the prompts that end go into `written` as they are made."""

    def __init__(self, model, prompts, limits, ends, written, report) -> None:
        config = model.config
        self.model, self.prompts, self.limits, self.ends, self.written, self.report = model, prompts, limits, ends, written, report
        self.layers, self.heads = config.num_hidden_layers, config.num_key_value_heads
        self.size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.done, self.lock, self.stopped = 0, threading.Lock(), False

    def run(self) -> None:
        from transformers import AttentionInterface

        AttentionInterface.register("labkit_shared_start", _attention)
        before = self.model.config._attn_implementation
        self.model.set_attn_implementation("labkit_shared_start")
        try:
            groups = _groups(self.prompts)
            for group in groups:
                self._run_start(group)
            self._run_batches(groups)
        finally:
            self.model.set_attn_implementation(before)

    def _buffers(self, rows: int, places: int) -> _Batch:
        import torch

        like = {"dtype": self.model.dtype, "device": self.model.device}
        places = -(-places // BLOCK) * BLOCK
        return _Batch(torch.zeros(self.layers, rows, self.heads, self.size, places, **like),  # zeros: NaN times 0 is NaN
                      torch.zeros(self.layers, rows, self.heads, places, self.size, **like),
                      torch.ones(rows, places, dtype=torch.bool, device=self.model.device))

    def _forward(self, batch: _Batch, tokens: "torch.Tensor", positions: "torch.Tensor") -> "torch.Tensor":
        """Run int tokens (rows, tokens); gives the hidden states after the last of them, (rows, hidden size)."""
        decoder = self.model.get_decoder()
        return decoder(input_ids=tokens, position_ids=positions, use_cache=False, labkit_batch=batch).last_hidden_state[:, -1]

    def _best(self, hidden: "torch.Tensor") -> "torch.Tensor":
        return self.model.get_output_embeddings()(hidden).max(-1).indices  # argmax takes five times as long

    def _run_start(self, group: _Group) -> None:
        if not group.start:
            return
        batch = self._buffers(1, len(group.start))
        batch.groups = [_Group([], [], first=0, last=1)]
        self._run_prompts(batch, [group.start], 0, 0, len(group.start))
        tokens = len(group.start)
        group.keys, group.values = batch.keys[:, 0, :, :, :tokens].contiguous(), batch.values[:, 0, :, :tokens].contiguous()

    def _run_prompts(self, batch: _Batch, own: list[list[int]], row: int, offset: int, end: int) -> "torch.Tensor":
        """Run the rows from `row` on, their own tokens ending before place `end`; gives the hidden states of the last ones."""
        import torch

        device = self.model.device
        width = max(len(tokens) for tokens in own)
        padding = torch.tensor([width - len(tokens) for tokens in own], device=device)
        tokens = torch.tensor([[0] * (width - len(tokens)) + list(tokens) for tokens in own], device=device)
        place = torch.arange(width, device=device)
        hidden = place < padding[:, None]
        batch.rows, batch.places, batch.seen = slice(row, row + len(own)), slice(end - width, end), slice(end - width, end)
        batch.hidden[batch.rows, end - width : end] = hidden
        batch.mask = (hidden[:, None, :] | (place > place[:, None]))[:, None]
        return self._forward(batch, tokens, offset + (place - padding[:, None]).clamp_min(0))

    def _run_batches(self, groups: list[_Group]) -> None:
        """Run all batches, on a processor two or more at once with a share of the threads each: most steps are many small
        operations, whose threads would wait for each other longer than they compute."""
        import torch

        threads = torch.get_num_threads()
        workers = 1 if self.model.device.type == "cuda" else max(1, min(threads, len(self.prompts) // WORKER_ROWS))

        def work(rows: list[int]) -> None:
            torch.set_num_threads(threads // workers)  # holds for the calling thread
            with torch.inference_mode():
                self._run_batch(groups, rows)

        try:
            with ThreadPoolExecutor(workers) as pool:
                try:
                    for done in as_completed([pool.submit(work, rows) for rows in self._batches(groups, workers)]):
                        done.result()
                except BaseException:
                    self.stopped = True
                    pool.shutdown(cancel_futures=True)
                    raise
        finally:
            torch.set_num_threads(threads)

    def _batches(self, groups: list[_Group], workers: int) -> list[list[int]]:
        """Prompt numbers by batch, each batch sorted by group and length, all batches with about the same work."""
        rows = [row for group in groups for row in sorted(group.prompts, key=lambda row: len(self.prompts[row]))]
        widest = max(len(self.prompts[row]) - len(group.start) for group in groups for row in group.prompts)
        one = 2 * self.layers * self.heads * self.size * self.model.dtype.itemsize * (widest + max(self.limits))
        fit = max(1, min(ROWS, CACHE_BYTES // workers // one))
        count = min(len(rows), workers * math.ceil(len(rows) / (fit * workers)))
        return [rows[at::count] for at in range(count)]

    def _run_batch(self, groups: list[_Group], rows: list[int]) -> None:
        import torch

        groups = [replace(group) for group in groups]  # with places of their own
        of = {row: group for group in groups for row in group.prompts}
        own = [self.prompts[row][len(of[row].start) :] for row in rows]
        end, limit = max(map(len, own)), max(self.limits[row] for row in rows)
        batch = self._buffers(len(rows), end + 1)
        batch.groups = groups
        for group in groups:
            mine = [at for at, row in enumerate(rows) if of[row] is group]
            group.first, group.last = (mine[0], mine[-1] + 1) if mine else (0, 0)
        last = torch.cat([self._run_prompts(batch, own[a:b], a, len(of[rows[a]].start), end) for a, b in _chunks(own, groups)])
        positions = torch.tensor([len(self.prompts[row]) for row in rows], device=self.model.device)
        rows, tokens = list(rows), self._best(last)
        for place in range(end, end + limit + 1):
            keep = self._take(batch, rows, tokens.tolist())
            tokens, positions = tokens[keep], positions[keep]
            if not rows or self.stopped:
                return
            batch.step_to(place, len(rows))
            tokens = self._best(self._forward(batch, tokens[:, None], positions[:, None]))
            positions = positions + 1

    def _take(self, batch: _Batch, rows: list[int], tokens: list[int]) -> list[int]:
        """Write the new tokens down and drop the rows that ended; gives for each place left the row that stands there now."""
        keep = list(range(len(rows)))
        for at in reversed(range(len(rows))):
            row, token = rows[at], tokens[at]
            if token not in self.ends:
                self.written[row].append(token)
            if token in self.ends or len(self.written[row]) >= self.limits[row]:
                self._drop(batch, rows, keep, at)
                with self.lock:
                    self.done += 1
                    self.report(self.done, len(self.prompts))
        return keep

    def _drop(self, batch: _Batch, rows: list[int], keep: list[int], hole: int) -> None:
        """Close the hole by the last row of its group, that one's by the last of the next group, and so on."""
        for group in batch.groups:
            if group.first == group.last or group.last <= hole:
                continue
            if group.first > hole:
                group.first -= 1
            group.last -= 1
            if group.last != hole:
                batch.copy_row(group.last, hole)
                rows[hole], keep[hole] = rows[group.last], keep[group.last]
            hole = group.last
        rows.pop()
        keep.pop()


def _groups(prompts: list[list[int]]) -> list[_Group]:
    """Prompts by their first 32 tokens, with the longest start that all of a group have, short of the last token."""
    found: dict[tuple[int, ...], list[int]] = {}
    for row, prompt in enumerate(prompts):
        found.setdefault(tuple(prompt[:32]) if len(prompt) > 32 else (), []).append(row)
    groups = []
    for head, rows in found.items():
        length = min(len(prompts[row]) for row in rows) - 1 if head and len(rows) > 1 else 0
        first = prompts[rows[0]]
        for row in rows[1:]:
            length = next((at for at in range(length) if prompts[row][at] != first[at]), length)
        groups.append(_Group(list(first[:length]), rows))
    return groups


def _chunks(own: list[list[int]], groups: list[_Group]) -> list[tuple[int, int]]:
    """Places of the batch that are run together at first: of one group, of at most `CHUNK_TOKENS` padded tokens."""
    found = []
    for group in groups:
        at = group.first
        while at < group.last:
            upto = at + 1
            while upto < group.last and (upto + 1 - at) * max(len(tokens) for tokens in own[at : upto + 1]) <= CHUNK_TOKENS:
                upto += 1
            found.append((at, upto))
            at = upto
    return found

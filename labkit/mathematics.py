"""What the notebooks on the mathematics look at a model with: what goes into a layer and comes out, how likely a text is, token by token.

The formulas themselves stand in `notebooks/01_transformer_and_losses.ipynb`; this module holds what is longer than a formula.
It knows nothing about training; models and tokenizers are transformers'.
"""

import copy
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from labkit.errors import LabError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_ROWS = 64  # texts that go through the model at once


class Passage(NamedTuple):
    """What went into a module and what came out, as tensors; of several inputs or outputs the first."""

    entered: "torch.Tensor"
    left: "torch.Tensor"


def watched(model: "torch.nn.Module", names: Iterable[str], **inputs: Any) -> dict[str, Passage]:
    """Run the model once, without gradients, and keep what passed through some of its modules.

    Args:
        names: modules as `model.named_modules()` calls them, such as `encoder.layer.0`.
        inputs: what the model is called with.

    Raises:
        LabError: the model has no such module, or it was not run.
    """
    import torch

    names, seen, handles = list(names), {}, []
    known = dict(model.named_modules())
    for name in names:
        if name not in known:
            raise LabError(f"the model has no module {name!r}; `model.named_modules()` lists them")

    def keep(name: str):
        def hook(_module, positional, named, output):
            tensors = [value for value in (*positional, *named.values()) if isinstance(value, torch.Tensor)]
            seen[name] = Passage(tensors[0], output[0] if isinstance(output, tuple) else output)
        return hook

    try:
        handles += [known[name].register_forward_hook(keep(name), with_kwargs=True) for name in names]
        with torch.no_grad():
            model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name in names if name not in seen]
    if missing:
        raise LabError(f"the model did not run its module {missing[0]!r}")
    return {name: seen[name] for name in names}


def next_tokens(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", text: str, most: int = 10) -> list[tuple[str, float]]:
    """The `most` likeliest tokens behind a text, with their probabilities, the likeliest first."""
    import torch

    with torch.no_grad():
        scores = model(**_given(tokenizer, text)).logits[0, -1].float()
    best = scores.softmax(-1).topk(most)
    return [(tokenizer.decode([token]), chance) for chance, token in zip(best.values.tolist(), best.indices.tolist(), strict=True)]


def surprise(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", text: str) -> list[tuple[str, float]]:
    """The tokens of a text from its second on, each with -ln of its probability behind all that stands before it, nats."""
    import torch

    given = _given(tokenizer, text)
    tokens = given["input_ids"][0]
    with torch.no_grad():
        scores = model(**given).logits[0, :-1].float()
    losses = torch.nn.functional.cross_entropy(scores, tokens[1:], reduction="none")
    return [(tokenizer.decode([token]), loss) for token, loss in zip(tokens[1:].tolist(), losses.tolist(), strict=True)]


def log_likelihoods(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], endings: Sequence[str],
                    start: str = "") -> "torch.Tensor":
    """ln P(ending | start + text) of each text with each ending, float32 (texts, endings), nats, summed over the ending's tokens.

    With a prompt as `start`, an input as text and labels as endings it is what zero-shot and few-shot classification compare (Brown et al.
    2020, section 2.4, https://arxiv.org/abs/2005.14165). The three parts are made into tokens each by itself, so that a label's tokens are
    the same behind every text. `start` goes through the model once and its keys and values are used for every text.

    Raises:
        LabError: a text without a token has no `start` before it, or an ending is empty.
    """
    import torch

    ids = lambda part: tokenizer(part, add_special_tokens=False)["input_ids"]  # noqa: E731
    begun, bodies, tails = ids(start), [ids(text) for text in texts], [ids(ending) for ending in endings]
    if not all(tails):
        raise LabError("an ending is empty: there is nothing to predict")
    if not begun and not all(bodies):
        raise LabError("a text is empty and has no `start`: its ending's first token would have nothing before it")
    kept, lead = begun[:-1], begun[-1:]  # the last token goes with each row: it predicts the ending of an empty text
    # Endings that differ in their last token alone share a row, since nothing is predicted from that token.
    rows = sorted({(text, tuple(tail[:-1])) for text in range(len(bodies)) for tail in tails},
                  key=lambda row: (len(bodies[row[0]]) + len(row[1]), row))
    found = torch.empty(len(texts), len(endings))
    with torch.inference_mode():
        cache = model.base_model(torch.tensor([kept], device=model.device), use_cache=True).past_key_values if kept else None
        for at in range(0, len(rows), _ROWS):
            part = rows[at : at + _ROWS]
            states = _last_states(model, cache, len(kept), [[*lead, *bodies[text], *body] for text, body in part])
            for row, (text, body) in enumerate(part):
                before = len(lead) + len(bodies[text]) - 1  # the place that predicts the ending's first token
                scores = model.get_output_embeddings()(states[row, before : before + len(body) + 1]).float().log_softmax(-1)
                for place, tail in enumerate(tails):
                    if tuple(tail[:-1]) == body:
                        found[text, place] = scores.gather(1, torch.tensor(tail, device=model.device)[:, None]).sum()
    return found


def _last_states(model: "PreTrainedModel", cache: Any, kept: int, rows: list[list[int]]) -> "torch.Tensor":
    """The last hidden states (rows, tokens, hidden) of rows of token ids behind the `kept` tokens whose keys and values `cache` holds."""
    import torch

    longest = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=model.device)  # 0 is masked, whatever it stands for
    mask = torch.tensor([[1] * (kept + len(row)) + [0] * (longest - len(row)) for row in rows], device=model.device)
    own = copy.deepcopy(cache)  # a pass adds to it
    if own is not None:
        own.batch_repeat_interleave(len(rows))
    return model.base_model(input_ids=tokens, attention_mask=mask, past_key_values=own, use_cache=own is not None).last_hidden_state


def _given(tokenizer: "PreTrainedTokenizerBase", text: str) -> dict[str, "torch.Tensor"]:
    given = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    if not given["input_ids"].shape[1]:
        raise LabError("the text is empty: nothing stands before the token to predict")
    return given

"""Examples through an encoder: padded batches of similar length, and the outputs of all of them without gradients."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from labkit.training.tasks.task import Example, Outputs

if TYPE_CHECKING:
    import torch

PASS_TOKENS = 16384
_ROOM = 4  # how many times a part's tokens it may be with padding, where that costs nothing but room for the embeddings
_PADDING, _TEXTS = 128, 8  # tokens of padding that a part may have before it ends, and how many texts it has a multiple of
_STEP = 8  # tokens: batches are padded to a multiple, so that kernels compiled for one shape serve many (see `shared_prefix`)


def parts(lengths: list[int], micro_tokens: int, packs: bool = False) -> list[list[int]]:
    """Places of texts of these lengths in parts of at most `micro_tokens` tokens, padding counted, at least one text each; short first.

    A part ends where the next text would cost much padding, but at whole eights of texts only: with few different sizes, kernels that are
    compiled for one serve many. (Banking77, 128 texts: 2,000 tokens, 7,200 with padding in one part, 2,700 so.)

    Args:
        packs: whether the model leaves padding out (`packed_encoder`): then a text's own tokens count, and parts end where they are full.
    """
    if packs:
        return _full_parts(lengths, micro_tokens)
    found: list[list[int]] = []
    count = tokens = 0  # of the last part
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        length = lengths[place]
        if not found or (count + 1) * length > micro_tokens or (count % _TEXTS == 0 and count * length - tokens > _PADDING):
            found.append([])
            count = tokens = 0
        found[-1].append(place)
        count, tokens = count + 1, tokens + length
    return found


def _full_parts(lengths: list[int], micro_tokens: int) -> list[list[int]]:
    found: list[list[int]] = []
    tokens = 0  # of the last part
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        length = lengths[place]
        if not found or tokens + length > micro_tokens or (len(found[-1]) + 1) * length > _ROOM * micro_tokens:
            found.append([])
            tokens = 0
        found[-1].append(place)
        tokens += length
    return found


def through(lengths: list[int], places: list[list[int]], packs: bool = False) -> int:
    """Tokens that go through the model for these parts, padding counted where it does not leave that out."""
    return sum(lengths) if packs else sum(len(part) * max(lengths[place] for place in part) for part in places)


def mask_of(lengths: list[int], device: str = "cpu") -> "torch.Tensor":
    """1 where a padded batch of texts of these lengths has a token, int64 (texts, tokens)."""
    import torch

    longest = -(-max(lengths) // _STEP) * _STEP
    return (torch.arange(longest, device=device) < torch.tensor(lengths, device=device)[:, None]).long()


def collate(texts: "list[tuple[tuple[int, ...], tuple[int, ...]]]", device: str = "cpu") -> "dict[str, torch.Tensor]":
    """A padded batch of (tokens, segments): `input_ids`, `attention_mask` and `token_type_ids`, int64 (texts, tokens)."""
    import torch

    mask = mask_of([len(tokens) for tokens, _ in texts])
    batch = {"attention_mask": mask, **{name: torch.zeros_like(mask) for name in ("input_ids", "token_type_ids")}}
    for place, (tokens, segments) in enumerate(texts):
        batch["input_ids"][place, : len(tokens)] = torch.tensor(tokens)
        batch["token_type_ids"][place, : len(segments)] = torch.tensor(segments, dtype=torch.int64)
    return {name: value.to(device) for name, value in batch.items()}


def run(model: "torch.nn.Module", examples: list[Example], device: str = "cpu", pass_tokens: int = PASS_TOKENS,
        call: "Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] | None" = None,
        batch_of: "Callable[[list[int]], dict[str, torch.Tensor]] | None" = None) -> Outputs:
    """The outputs of every head for every example, and the embeddings under "", as float32 arrays in the order of the examples.

    Args:
        call: what is asked of the model for a batch, in place of its own `forward`.
        batch_of: the batch for these places among the examples, where it is not to be made of their tokens.
    """
    import torch

    made = batch_of or (lambda places: collate([(examples[place].tokens, examples[place].segments) for place in places], device))
    found: Outputs = {}
    was = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for places in parts([len(example.tokens) for example in examples], pass_tokens, getattr(model, "packs", False)):
                for name, values in (call or model)(made(places)).items():
                    kept = found.setdefault(name, [None] * len(examples))
                    for place, value in zip(places, values.float().cpu().numpy(), strict=True):
                        whole = value.ndim == 1
                        kept[place] = value if whole else value[: len(examples[place].tokens)]
    finally:
        model.train(was)
    return found

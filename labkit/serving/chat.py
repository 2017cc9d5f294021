"""Chats as token ids and token ids as text: one way for every engine, from the base model's own tokenizer.

What a message says never becomes a special token: `<|im_end|>` typed by a person is read as those characters.
"""

from pathlib import Path

from labkit.errors import LabError
from labkit.serving import Messages
from labkit.training.examples import chat_tokens

_MARK = "\ue000{}\ue001"  # stands for a message's text while its template is rendered


class ChatTokens:
    """The tokenizer of a base model's folder, its chat template, and the ids that end an answer (`ends`)."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
            self._backend = self._tokenizer.backend_tokenizer
        except (OSError, ValueError, AttributeError) as error:
            raise LabError(f"{folder} has no tokenizer that can be used here: {str(error).splitlines()[0]}") from error
        added = self._tokenizer.added_tokens_decoder
        self._special = {token.content: number for number, token in added.items() if token.special}
        self.ends = self._end_tokens(folder)

    def __len__(self) -> int:
        return len(self._tokenizer)

    def text_of(self, token: int) -> str:
        """A token as it stands in the vocabulary."""
        return self._tokenizer.convert_ids_to_tokens(token)

    def encode(self, messages: Messages) -> list[int]:
        """Token ids up to where the answer begins; LabError where the chat template refuses them or is not there."""
        if any(text in message["content"] for text in self._special for message in messages):
            return self._encode_apart(messages)
        return chat_tokens(self._tokenizer, messages)

    def prefix(self, messages: Messages) -> list[int]:
        """The token ids that a chat with this beginning starts with, whatever letter or digit comes next."""
        if messages and messages[-1]["role"] == "user":
            return self.encode(messages)
        one, other = (self.encode([*messages, {"role": "user", "content": text}]) for text in ("a", "7"))
        return one[:common(one, other)]

    def decoder(self) -> "Decoder":
        """For one answer."""
        return Decoder(self._backend)

    def _encode_apart(self, messages: Messages) -> list[int]:
        """As `encode`, with each message's text tokenised apart from the template, as plain characters."""
        marks = [_MARK.format(number) for number in range(len(messages))]
        marked = [{**message, "content": mark} for message, mark in zip(messages, marks, strict=True)]
        chat_tokens(self._tokenizer, marked)  # raises what there is to raise
        rest = self._tokenizer.apply_chat_template(marked, add_generation_prompt=True, tokenize=False)
        tokens: list[int] = []
        for mark, message in zip(marks, messages, strict=True):
            before, found, rest = rest.partition(mark)
            tokens += self._tokenizer(before, add_special_tokens=False)["input_ids"]
            if found:
                plain = self._tokenizer(message["content"], add_special_tokens=False, split_special_tokens=True)
                tokens += plain["input_ids"]
        return tokens + self._tokenizer(rest, add_special_tokens=False)["input_ids"]

    def _end_tokens(self, folder: Path) -> frozenset[int]:
        """What the model's files name as the end, and the special token that its template writes behind an answer."""
        from transformers import GenerationConfig

        ends = {self._tokenizer.eos_token_id}
        if (folder / "generation_config.json").exists():
            named = GenerationConfig.from_pretrained(str(folder)).eos_token_id
            ends |= set(named) if isinstance(named, list) else {named}
        chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        if self._tokenizer.chat_template:
            start = self.encode(chat[:1])
            whole = self._tokenizer.apply_chat_template(chat, tokenize=False)
            behind = self._tokenizer(whole, add_special_tokens=False)["input_ids"][len(start):]
            ends |= set([token for token in behind if token in self._special.values()][:1])
        return frozenset(ends - {None})


class Decoder:
    """Token ids to text as they come; bytes of a character that is not whole yet wait for the rest."""

    def __init__(self, backend) -> None:
        from tokenizers.decoders import DecodeStream

        self._backend = backend
        self._stream = DecodeStream(skip_special_tokens=True)

    def step(self, token: int) -> str:
        """The text that this token completes; empty where it completes none."""
        return self._stream.step(self._backend, token) or ""


def common(one: list[int], other: list[int]) -> int:
    """How many tokens two lists begin with in common."""
    shortest = min(len(one), len(other))
    return next((at for at in range(shortest) if one[at] != other[at]), shortest)

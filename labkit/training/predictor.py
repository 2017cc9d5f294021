"""An encoder's run, ready to answer: what its heads say of new texts, with probabilities, and the texts' embeddings.

It computes in the number format that the run was trained in, so that it says what was measured at the end of the training.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit import files, models, runs
from labkit.errors import LabError
from labkit.runs import Run
from labkit.training import heads as head_files
from labkit.training import recipe as recipes
from labkit.training.recipe import Recipe
from labkit.training.tasks import alignment, passes, spans, tagging, texts
from labkit.training.tasks.task import Example, Head, Outputs

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset

Said = dict[str, dict[str, Any]]  # head -> what it says


@dataclass(frozen=True)
class Predictor:
    """See the module's docstring; made by `load`."""

    run: Run
    recipe: Recipe
    heads: tuple[Head, ...]
    tokenizer: Any
    model: "torch.nn.Module"

    def predict(self, inputs: Sequence[Any]) -> list[Said]:
        """What each head says of each input, in their order; JSON can hold it.

        A `label`: `value`, `probability`, `probabilities` (by label). Several `labels`: `value` (a list), `probabilities`. A `number`:
        `value`. `tags`: `words`, `value` (a tag a word), `probability` (of each), `entities` (`type`, `text`, `first`, `end`). A `span`:
        `value` ("" for no answer), `probability` among its best answers, `place` (characters of the context), `no_answer` (above 0: rather
        none), `best`.
        Heads that see a whole text also say whether its end was `cut` off.

        Args:
            inputs: texts, or pairs of texts; for tagging lists of words, or texts, which are split; for a span mappings with `question`
                and `context`.

        Raises:
            LabError: an input is not of the run's kind, or the run gives embeddings alone.
        """
        if not inputs:
            return []
        kinds = {head.kind for head in self.heads}
        if kinds == {"none"}:
            raise LabError(f"run {self.run.key} gives embeddings and predicts nothing; call embed")
        if kinds == {"tags"}:
            return self._tags([_words(value, place) for place, value in enumerate(inputs)])
        if kinds == {"span"}:
            return self._spans([_question(value, place) for place, value in enumerate(inputs)])
        cut: list[str] = []
        examples = self._texts([_text(value, place) for place, value in enumerate(inputs)], cut)
        outputs = self.outputs(examples)
        return [{head.name: {**_said(head, outputs[head.name][place]), "cut": str(place) in cut} for head in self.heads if head.outputs}
                for place in range(len(inputs))]

    def embed(self, inputs: Sequence[str]) -> "np.ndarray":
        """The texts' embeddings, float32 (texts, hidden), not scaled; texts that are too long lose their end."""
        import numpy as np

        if not inputs:
            return np.zeros((0, self.model.trunk.config.hidden_size), dtype=np.float32)
        examples = self._texts([_text(value, place) for place, value in enumerate(inputs)], [])
        return np.stack(self.outputs(examples)[""])

    def tokens(self, inputs: Sequence[str]) -> "tuple[list[np.ndarray], list[tuple[int, ...]]]":
        """Each text's tokens for `nearest`: their last states, float32 (tokens, hidden), and their numbers in the vocabulary. A text
        that is too long loses its end."""
        examples = self._texts([_text(value, place) for place, value in enumerate(inputs)], [])
        device = str(next(self.model.parameters()).device)
        states = passes.run(self.model, examples, device, call=lambda batch: {"": self.model.states(batch)}).get("", [])
        return states, [example.tokens for example in examples]

    def answers(self, records: "Dataset") -> list[dict[str, Any]]:
        """What the heads of a scenario's run say of its records, as `evaluation.metrics` takes it: rows `id`, `answer`, `complete`, and
        `scores`, the probability of each label. Fields that the run has not learned are not there."""
        from labkit import records as recs
        from labkit.training.tasks import of_scenario

        rows = list(recs.rows(records, "id", "messages"))
        said = self.predict([of_scenario.text_of(row) for row in rows])
        return [{"id": row["id"], "answer": {name: value["value"] for name, value in each.items()}, "complete": True,
                 "scores": {name: value["probability"] for name, value in each.items() if "probability" in value}}
                for row, each in zip(rows, said, strict=True)]

    def outputs(self, examples: list[Example]) -> Outputs:
        """The heads' outputs and the embeddings for examples as they were trained on."""
        return passes.run(self.model, examples, str(next(self.model.parameters()).device))

    def _texts(self, found: list[texts.Text], cut: list[str]) -> list[Example]:
        return texts.encode(self.tokenizer, found, (), self.recipe.max_tokens, cut)

    def _tags(self, sentences: list[list[str]]) -> list[Said]:
        (head,) = self.heads
        aligned = tagging.align(sentences, None, self.tokenizer, self.recipe.max_tokens)
        outputs = self.outputs([Example(window.tokens, (0,) * len(window.tokens), {}, window.row) for window in aligned.windows])
        sure = [[1.0] * len(sentence) for sentence in sentences]
        for window, scores in zip(aligned.windows, outputs[head.name], strict=True):
            for place, word in window.predicts:
                sure[window.row][word] = float(_softmax(scores[place]).max())
        said = []
        for words, tags, probabilities in zip(sentences, tagging.tags_of(aligned, outputs, head), sure, strict=True):
            entities = [{"type": kind, "text": " ".join(words[first:end]), "first": first, "end": end}
                        for kind, first, end in alignment.spans(tags)]
            said.append({head.name: {"words": words, "value": tags, "probability": probabilities, "entities": entities}})
        return said

    def _spans(self, rows: list[dict[str, Any]]) -> list[Said]:
        (head,) = self.heads
        made = spans.windowed(rows, self.tokenizer, self.recipe.max_tokens)
        outputs = self.outputs([Example(window.tokens, window.segments, {}, window.row) for window in made.windows])
        return [{head.name: {"value": answer.text, "probability": dict(answer.best).get(answer.text, 0.0),
                             "place": list(answer.place) if answer.place else None, "no_answer": answer.no_answer,
                             "best": [list(each) for each in answer.best[:5]], "cut": answer.id in made.cut_questions}}
                for answer in spans.answers(made, outputs, head)]


def load(run: Run) -> Predictor:
    """The run's model with its heads, on the GPU where there is one.

    Raises:
        LabError: the run is not finished, damaged, or a chat model's; or its base is another one now.
    """
    import torch

    recipe, heads, how, base = _opened(run)
    dtype = getattr(torch, run.manifest()["training"]["precision"])
    own = run.folder / "model"
    trunk = head_files.load_trunk(own if own.exists() else base.folder, dtype)
    if run.adapter_folder.exists():
        from peft import PeftModel

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # PEFT asks by the old name
            trunk = PeftModel.from_pretrained(trunk, run.adapter_folder, autocast_adapter_dtype=False).to(dtype)
    model = head_files.make(trunk, heads, how["pooling"], normalise=how["normalise"])
    head_files.load_weights(model, run.folder)
    return Predictor(run, recipe, heads, texts.tokenizer_of(base), model.to("cuda" if torch.cuda.is_available() else "cpu").eval())


def untrained(predictor: Predictor) -> Predictor:
    """The same with the base's own weights in the trunk, to see what training changed: for embeddings alone, since heads are the run's."""
    import dataclasses

    base = models.resolve(predictor.run.manifest()["base"]["name"])
    like = next(predictor.model.parameters())
    trunk = head_files.load_trunk(base.folder, like.dtype)
    model = head_files.make(trunk, predictor.heads, predictor.model.pooling, normalise=predictor.model.normalise)
    return dataclasses.replace(predictor, model=model.to(like.device).eval())


def _opened(run: Run) -> tuple[Recipe, tuple[Head, ...], dict[str, Any], models.BaseModel]:
    """What is needed to build the run's model, once run and base are known to be sound."""
    manifest = run.manifest()
    problems = runs.verify(run)
    if problems:
        raise LabError(f"run {run.key} is damaged ({'; '.join(problems)}); train it anew")
    if not (run.folder / "heads.json").exists():
        raise LabError(f"run {run.key} is a chat model's and has no heads; ask it with labkit chat or labkit evaluate")
    base = models.resolve(manifest["base"]["name"])
    if base.sha256 != manifest["base"]["sha256"]:
        raise LabError(f"run {run.key} was trained on {base.name} {files.short(manifest['base']['sha256'])}, but "
                       f"{files.short(base.sha256)} is here now; train it anew")
    heads, how = head_files.read(run.folder)
    return recipes.read(run.folder / "recipe.toml"), heads, how, base


def _said(head: Head, output: "np.ndarray") -> dict[str, Any]:
    import numpy as np

    value = texts.value_of(head, output)
    if head.kind == "number":
        return {"value": value}
    if head.kind == "labels":
        shares = 1 / (1 + np.exp(-output.astype(np.float64)))
        return {"value": list(value), "probabilities": dict(zip(head.labels, shares.tolist(), strict=True))}
    shares = _softmax(output)
    return {"value": value, "probability": float(shares.max()), "probabilities": dict(zip(head.labels, shares.tolist(), strict=True))}


def _softmax(scores: "np.ndarray") -> "np.ndarray":
    import numpy as np

    exact = np.exp(scores.astype(np.float64) - scores.max())
    return exact / exact.sum()


def _text(value: Any, place: int) -> texts.Text:
    pair = (value, None) if isinstance(value, str) else value
    if not (isinstance(pair, Sequence) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], str | None)):
        raise LabError(f"input {place + 1} must be a text or a pair of texts, not {value!r:.80}")
    return texts.Text(str(place), *pair)


def _words(value: Any, place: int) -> list[str]:
    words = alignment.words_of(value) if isinstance(value, str) else list(value) if isinstance(value, Sequence) else []
    if not words or not all(isinstance(word, str) for word in words):
        raise LabError(f"input {place + 1} must be a text or a list of words that is not empty, not {value!r:.80}")
    return words


def _question(value: Any, place: int) -> dict[str, Any]:
    if not (isinstance(value, Mapping) and all(isinstance(value.get(key), str) for key in ("question", "context"))):
        raise LabError(f"input {place + 1} must have a question and a context, not {value!r:.80}")
    return {"id": str(place), "question": value["question"], "context": value["context"]}

"""A teacher for a chat model: a finished run or a base model whose probabilities the student learns from, beside the answers themselves.

The student's loss at each token is (1 - w) cross-entropy + w T^2 KL(teacher || student), both softened by T (Hinton et al. 2015, section 2,
https://arxiv.org/abs/1503.02531; token by token as in Sanh et al. 2019, https://arxiv.org/abs/1910.01108).

The teacher is run once a record, over the whole conversation (the student may see less, see `views`), and what is kept is the last state
before each answer token: its own head makes all scores of them again, so nothing is lost, and 576 numbers in bfloat16 stand for 49,152.
(The likeliest few tokens with their probabilities would take less room and not be exact.) The states lie in memory, 1.2 kB an answer token
for the embedded model; a training that goes on makes them again.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from labkit import files, models, runs
from labkit.errors import LabError
from labkit.models import BaseModel
from labkit.training.examples import Encoded
from labkit.training.objective import token_losses
from labkit.training.objectives.distillation import distillation
from labkit.training.recipe import Recipe
from labkit.training.tasks.passes import parts
from labkit.training.views import View

if TYPE_CHECKING:
    from pathlib import Path

    import torch

_PASS_TOKENS = 8192  # padding counted
_TOKENS = 64         # scores that are held at once: of teacher and student, float32, with their softened probabilities and gradients


class Teacher:
    """See the module's docstring; made by `load`.

    Attributes:
        told: as a manifest names it, see `told`.
        states: of each record the last states that predict its answer's tokens, (answer tokens, hidden); filled by `prepare`.
    """

    def __init__(self, model: "torch.nn.Module", recipe: Recipe, told: dict[str, str]) -> None:
        self.told = told
        self.weight, self.temperature = recipe.teacher_weight, recipe.teacher_temperature
        self._decoder: Any = model.get_decoder()
        self.head = model.get_output_embeddings().requires_grad_(False)
        self.states: list[torch.Tensor] = []

    def prepare(self, data: Encoded, progress: "Callable[[int, int], None] | None" = None) -> None:
        """Run the teacher over all examples and let go of all of it but its head."""
        import torch

        found: list[torch.Tensor | None] = [None] * len(data.examples)
        device, done = self.head.weight.device, 0
        with torch.no_grad():
            for rows in parts([len(example.tokens) for example in data.examples], _PASS_TOKENS):
                longest = max(len(data.examples[row].tokens) for row in rows)
                tokens = torch.zeros(len(rows), longest, dtype=torch.int64)
                mask = torch.zeros_like(tokens)
                for number, row in enumerate(rows):
                    own = data.examples[row].tokens
                    tokens[number, : len(own)], mask[number, : len(own)] = torch.tensor(own), 1
                whole = self._decoder(input_ids=tokens.to(device), attention_mask=mask.to(device), use_cache=False).last_hidden_state
                for number, row in enumerate(rows):
                    example = data.examples[row]
                    found[row] = whole[number, example.answer_start - 1 : len(example.tokens) - 1].cpu().clone()
                done += len(rows)
                if progress:
                    progress(done, len(found))
        self.states, self._decoder = found, None

    def of(self, data: Encoded, rows: Sequence[int], seen: dict[int, View]) -> "torch.Tensor":
        """What the teacher has before each token that the rows' views predict, (tokens, hidden), row by row."""
        import torch

        wanted = [self.states[row][[place - data.examples[row].answer_start for place in seen[row].predicted]] for row in rows]
        return torch.cat(wanted).to(self.head.weight.device)


def load(recipe: Recipe, base: BaseModel, tokenizer, dtype: "torch.dtype", device: str) -> Teacher | None:
    """The recipe's teacher, or None where it has none.

    Raises:
        LabError: it is neither a sound run that writes nor a base model here, its tokens are others than the student's, or it is a learned
            prefix or prompt.
    """
    if not recipe.teacher:
        return None
    run, teacher = found(recipe.teacher)
    if run and not run.writes():
        raise LabError(f"recipe: teacher {recipe.teacher!r} is an encoder's run, which writes nothing; choose a chat run")
    learned = run.learned_folder if run else None
    _check_tokens(recipe.teacher, teacher, base, tokenizer)
    return Teacher(_model(recipe.teacher, teacher, learned, dtype).to(device).eval(), recipe, told(recipe.teacher, run, teacher))


def losses(teacher: Teacher | None, head: "torch.nn.Module", states: "torch.Tensor", answers: "torch.Tensor", data: Encoded,
           rows: Sequence[int], seen: dict[int, View]) -> "tuple[torch.Tensor, torch.Tensor]":
    """Each predicted token's loss with its gradient, and its plain cross-entropy without one, which is what is reported: float32 (tokens,).

    Args:
        head, states, answers: as `objective.token_losses` takes them.
    """
    if teacher is None:
        found = token_losses(head, states, answers)
        return found, found.detach()
    return distilled(head, states, answers, teacher.head, teacher.of(data, rows, seen), teacher.weight, teacher.temperature)


def distilled(head: "torch.nn.Module", states: "torch.Tensor", answers: "torch.Tensor", teacher_head: "torch.nn.Module",
              teacher_states: "torch.Tensor", weight: float, temperature: float) -> "tuple[torch.Tensor, torch.Tensor]":
    """(1 - weight) cross-entropy + weight T^2 KL(teacher || student) of each token, and the cross-entropy alone, float32 (tokens,).

    The scores of all tokens never stand in memory together, unless the student's head learns as well.
    """
    import torch

    if any(parameter.requires_grad for parameter in head.parameters()):
        scores = head(states)
        values = distillation(scores, teacher_head(teacher_states), answers, temperature=temperature, share=weight).values
        return values, torch.nn.functional.cross_entropy(scores.detach().float(), answers, reduction="none")
    return _function().apply(states, answers, teacher_states, head, teacher_head, weight, temperature)


@functools.cache
def _function() -> "type[torch.autograd.Function]":
    """A token's loss depends on its own state alone, so its gradient can be made at once, part by part (as in `objective`)."""
    import torch

    class Distilled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, states, answers, teacher_states, head, teacher_head, weight, temperature):
            values, plain = (torch.empty(len(states), dtype=torch.float32, device=states.device) for _ in range(2))
            gradient = torch.empty_like(states) if ctx.needs_input_grad[0] else None
            for start in range(0, len(states), _TOKENS):
                part = slice(start, start + _TOKENS)
                own = states[part].detach().requires_grad_(gradient is not None)
                with torch.set_grad_enabled(gradient is not None):
                    scores = head(own)
                    found = distillation(scores, teacher_head(teacher_states[part]), answers[part], temperature=temperature,
                                         share=weight).values
                if gradient is not None:
                    (gradient[part],) = torch.autograd.grad(found, own, torch.ones_like(found))
                values[part] = found.detach()
                plain[part] = torch.nn.functional.cross_entropy(scores.detach().float(), answers[part], reduction="none")
            if gradient is not None:
                ctx.save_for_backward(gradient)
            ctx.mark_non_differentiable(plain)
            return values, plain

        @staticmethod
        def backward(ctx, by_loss, _):
            (gradient,) = ctx.saved_tensors
            return (gradient.float() * by_loss[:, None]).to(gradient.dtype), None, None, None, None, None, None

    return Distilled


def found(name: str) -> tuple[runs.Run | None, BaseModel]:
    """The run that is called so, and its base; or None, and the base model of this name.

    Raises:
        LabError: there is neither, the run is damaged, or another base is here now.
    """
    run = {run.key: run for run in runs.catalogue()}.get(name)
    if run is None:
        try:
            return None, models.resolve(name)
        except LabError as error:
            raise LabError(f"recipe: teacher {name!r} is neither a run (SCENARIO/NAME) nor a base model here: {error}") from None
    problems = runs.verify(run)
    if problems:
        raise LabError(f"recipe: teacher {name!r} is damaged ({'; '.join(problems)}); train it anew")
    told = run.manifest()["base"]
    base = models.resolve(told["name"])
    if base.sha256 != told["sha256"]:
        raise LabError(f"recipe: teacher {name!r} was trained on {base.name} {files.short(told['sha256'])}, but "
                       f"{files.short(base.sha256)} is here now; train it anew")
    return run, base


def told(name: str, run: runs.Run | None, base: BaseModel) -> dict[str, str]:
    """The teacher as a manifest names it: what it is called, and the sha256 of its weights."""
    return {"name": name, "sha256": run.weights_sha256() if run else base.sha256}


def _check_tokens(name: str, teacher: BaseModel, student: BaseModel, tokenizer) -> None:
    from transformers import AutoTokenizer

    if not teacher.is_decoder:
        raise LabError(f"recipe: teacher {name!r} cannot write text; choose a causal language model")
    if teacher.sha256 != student.sha256 and AutoTokenizer.from_pretrained(teacher.folder).get_vocab() != tokenizer.get_vocab():
        raise LabError(f"recipe: teacher {name!r} has other tokens than {student.name}; a teacher needs the student's tokenizer")
    sizes = [files.read_json(base.folder / "config.json").get("vocab_size") for base in (teacher, student)]
    if sizes[0] != sizes[1]:
        raise LabError(f"recipe: teacher {name!r} scores {sizes[0]} tokens and {student.name} {sizes[1]}; "
                       "a teacher needs the same vocabulary")


def _model(name: str, base: BaseModel, learned: "Path | None", dtype: "torch.dtype") -> "torch.nn.Module":
    import torch
    from transformers import AutoModelForCausalLM

    if learned is None or not (learned / "adapter_config.json").exists():
        return AutoModelForCausalLM.from_pretrained(learned or base.folder, dtype=dtype)
    from peft import PeftConfig, PeftModel

    if PeftConfig.from_pretrained(learned).is_prompt_learning:
        raise LabError(f"recipe: teacher {name!r} is a learned prefix or prompt; choose a run of another method")
    whole = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)  # an adapter is merged before rounding, as it is served
    return PeftModel.from_pretrained(whole, learned).merge_and_unload().to(dtype)

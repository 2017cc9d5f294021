"""One question to several checkpoints: which side shows which answer, what is hidden, and the vote that comes of it.

Nothing here knows Gradio.
"""

import dataclasses
import random
import threading
from dataclasses import dataclass

from apps.checkpoints import Checkpoint
from apps.panes import Answer
from labkit.evaluation import votes
from labkit.evaluation.votes import SIDES, Candidate, Vote
from labkit.scenarios import Scenario
from labkit.serving import Messages, Sampling

_BY_LOT = random.SystemRandom()
_VOTING = threading.Lock()  # two clicks, one vote


def messages(system: str, turns: list[tuple[str, str]], question: str) -> Messages:
    """A chat for an engine: the system prompt (none where it is empty), the turns so far, the question."""
    said = [{"role": role, "content": text} for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)]
    first = [{"role": "system", "content": system.strip()}] if system.strip() else []
    return [*first, *said, {"role": "user", "content": question}]


@dataclass(eq=False)
class Round:
    """One question to all: `answers` in the order of the pickers, `shown` in the order of the sides."""

    scenario: Scenario
    language: str
    question: str
    sampling: Sampling
    answers: list[Answer]
    shown: list[Answer]
    blind: bool
    voted: bool = False

    @property
    def hidden(self) -> bool:
        """Whether names, speeds and hashes are not to be told yet."""
        return self.blind and not self.voted

    @property
    def ended(self) -> bool:
        return all(answer.done for answer in self.answers)

    @property
    def open_for_vote(self) -> bool:
        return self.ended and not self.voted and not any(answer.error or answer.weights is None for answer in self.answers)

    def texts(self) -> list[str]:
        """What each side shows now. Unseen sides keep pace with the slowest, because speed would tell them apart."""
        if not self.hidden or self.ended:
            return [answer.text for answer in self.shown]
        pace = min(len(answer.pieces) for answer in self.shown if not answer.done)
        return ["".join(answer.pieces[:pace]) for answer in self.shown]


def start(scenario: Scenario, language: str, question: str, system: str, chosen: list[Checkpoint], drawn: Sampling, blind: bool) -> Round:
    """The round with answers that are not begun. Unless the system prompt was changed, each gets the one it was trained with."""
    common = system.strip() == scenario.system_prompt(language).strip()
    prompts = [each.scenario.system_prompt(language) if common else system for each in chosen]
    answers = [Answer(each, messages(prompt, [], question), drawn) for each, prompt in zip(chosen, prompts, strict=True)]
    return Round(scenario, language, question, drawn, answers, _sides(answers, blind), blind)


def again(old: Round, drawn: Sampling, blind: bool) -> Round:
    """The same question to the same checkpoints once more, with sides of its own."""
    answers = [Answer(each.checkpoint, each.messages, drawn) for each in old.answers]
    return dataclasses.replace(old, sampling=drawn, answers=answers, shown=_sides(answers, blind), blind=blind, voted=False)


def ballot(asked: Round, choice: str, reason: str, session: str) -> Vote:
    """The vote as it is kept."""
    candidates = tuple(
        Candidate(side=side, run=answer.checkpoint.run_key, answer=answer.text, base=answer.weights.base, adapter=answer.weights.adapter,
                  engine=answer.weights.engine, stopped=answer.stopped)
        for side, answer in zip(SIDES, asked.shown, strict=False))
    drawn = dataclasses.asdict(asked.sampling)
    prompts = {side: answer.messages[0]["content"] for side, answer in zip(SIDES, asked.shown, strict=False)}
    if len(set(prompts.values())) > 1:  # runs on data of one's own have labels of their own
        drawn["system_prompts"] = prompts
    return Vote(scenario=asked.scenario.name, language=asked.language, messages=asked.shown[0].messages, candidates=candidates,
                choice=choice, reason=(reason or "").strip(), blind=asked.blind, sampling=drawn, session=session)


def vote(asked: Round, choice: str, reason: str, session: str) -> int | None:
    """Keep the one vote of this round; its number, or None where the answers have not ended or there is a vote already.

    Raises:
        LabError: it cannot be kept; one can try again.
    """
    with _VOTING:
        if not asked.open_for_vote:
            return None
        number = votes.cast(ballot(asked, choice, reason, session))
        asked.voted = True
        return number


def _sides(answers: list[Answer], blind: bool) -> list[Answer]:
    return _BY_LOT.sample(answers, len(answers)) if blind else list(answers)

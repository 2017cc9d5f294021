"""A plan: which steps prepare the data, in which order, with which parameters; read from and written to a small TOML file.

    [[step]]
    use = "length"
    min_characters = 3

This module knows the steps by name only; `labkit.data.pipeline` runs them.
"""

import hashlib
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit import files
from labkit.data import steps
from labkit.errors import LabError

DEFAULT = Path(__file__).with_name("default_plan.toml")


@dataclass(frozen=True)
class Use:
    """One step of a plan: its name, and the parameters that differ from its defaults."""

    step: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The steps in their order."""

    uses: tuple[Use, ...]

    @property
    def names(self) -> list[str]:
        return [use.step for use in self.uses]

    def without(self, *names: str) -> "Plan":
        """The plan without these steps.

        Raises:
            LabError: one of them is not in the plan.
        """
        for name in names:
            if name not in self.names:
                raise LabError(f"the plan has no step {name!r}; it has {', '.join(self.names)}")
        return Plan(tuple(use for use in self.uses if use.step not in names))

    def with_parameters(self, name: str, **parameters: Any) -> "Plan":
        """The plan with other parameters for one step, checked.

        Raises:
            LabError: the step is not in the plan, or does not know a parameter.
        """
        if name not in self.names:
            raise LabError(f"the plan has no step {name!r}; it has {', '.join(self.names)}")
        changed = (Use(use.step, {**use.parameters, **parameters}) if use.step == name else use for use in self.uses)
        return checked(Plan(tuple(changed)), "plan")

    def fingerprint(self) -> str:
        """The sha256 over the steps with all their parameters, the defaults too, as 64 hexadecimal digits."""
        full = [[use.step, steps.get(use.step).parameters(use.parameters)] for use in self.uses]
        return hashlib.sha256(files.canonical_json(full).encode()).hexdigest()


def of(*names: str) -> Plan:
    """A plan of these steps with their defaults.

    Raises:
        LabError: there is no such step.
    """
    return checked(Plan(tuple(Use(name) for name in names)), "plan")


def default() -> Plan:
    """The lab's own plan."""
    return read(DEFAULT)


def read(path: str | os.PathLike) -> Plan:
    """Read a plan.

    Raises:
        LabError: the file is missing, not TOML, or names a step or parameter that is not there; says which entry.
    """
    try:
        raw = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise LabError(f"{path} does not exist") from None
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LabError(f"{path} is not valid TOML: {error}") from error
    return from_dict(raw, str(path))


def from_dict(raw: dict[str, Any], where: str) -> Plan:
    """A plan from its plain form (`to_dict`'s inverse); `where` names the source in errors."""
    unknown = sorted(set(raw) - {"step"})
    if unknown:
        raise LabError(f"{where}: {', '.join(unknown)} is not known here; a plan has [[step]] entries only")
    entries = raw.get("step", [])
    if not isinstance(entries, list) or not entries:
        raise LabError(f"{where}: at least one [[step]] is needed")
    uses = []
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or not isinstance(entry.get("use"), str):
            raise LabError(f"{where}, step {number}: use = \"NAME\" is needed")
        uses.append(Use(entry["use"], {name: value for name, value in entry.items() if name != "use"}))
    return checked(Plan(tuple(uses)), where)


def to_dict(plan: Plan) -> dict[str, Any]:
    """The plain form, as it stands in TOML."""
    return {"step": [{"use": use.step, **use.parameters} for use in plan.uses]}


def text(plan: Plan) -> str:
    """The plan as TOML."""
    import tomli_w

    return tomli_w.dumps(to_dict(plan))


def write(plan: Plan, path: str | os.PathLike) -> None:
    """Write the plan as TOML; `read` gives an equal one back."""
    files.write_text(path, text(plan))


def checked(plan: Plan, where: str) -> Plan:
    """The same plan, or LabError with the first entry that cannot be."""
    for number, use in enumerate(plan.uses, 1):
        try:
            steps.get(use.step).parameters(use.parameters)
        except LabError as error:
            raise LabError(f"{where}, step {number}: {error}") from None
    return plan

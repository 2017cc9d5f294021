"""What a search may vary: ranges and lists beside a recipe's settings, in the table `[search]` of its TOML.

    [search]
    learning_rate = {low = 1e-4, high = 1e-2, log = true}
    layers = {low = 4, high = 12, step = 2}
    method = ["lora", "full"]
    rank = {choices = [8, 16, 32], only_if = {method = "lora"}}

A setting with `only_if` is varied only where the settings named there have one of the values given; elsewhere it stays what the recipe
says. Every range is checked against the recipe's own limits by making recipes with its ends.
This module knows nothing about Optuna's storage and nothing about training.
"""

import dataclasses
import itertools
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit import files
from labkit.errors import LabError
from labkit.training import recipe as recipes
from labkit.training.recipe import Recipe

if TYPE_CHECKING:
    import optuna

    from labkit.training.tasks.formats import TaskData

Settings = dict[str, Any]

_FIXED = {
    "scenario": "a search is of one scenario",
    "name": "every trial has a name of its own",
    "seed": "the best of several seeds is luck; the report repeats seeds to measure it",
    "monitor": "trials are compared by it",
    "checkpoint_steps": "it does not change what is learned",
}
_KEYS = ("low", "high", "log", "step", "choices", "only_if")


@dataclass(frozen=True)
class Dimension:
    """One setting that varies: either one of `choices`, or a number from `low` to `high` (both included).

    Attributes:
        kind: `int`, `float`, `str` or `bool`, the setting's type.
        log: whether the numbers are spread evenly over their logarithms.
        step: distance of two neighbouring values; 0: any (of an `int`: 1).
        only_if: for other settings the values of which one must hold.
    """

    name: str
    kind: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float = 0.0
    only_if: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def distribution(self) -> "optuna.distributions.BaseDistribution":
        """The same for Optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.kind == "int":
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step) or 1)
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step or None)

    def suggested(self, trial: "optuna.Trial") -> Any:
        """The value that Optuna chooses for this trial."""
        if self.choices:
            return trial.suggest_categorical(self.name, self.choices)
        if self.kind == "int":
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log, step=int(self.step) or 1)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log, step=self.step or None)

    def values(self) -> list[Any] | None:
        """All values in order; None where there is no end of them."""
        if self.choices:
            return list(self.choices)
        if self.kind == "int":
            return list(range(int(self.low), int(self.high) + 1, int(self.step) or 1))
        if not self.step:
            return None
        return [round(self.low + place * self.step, 12) for place in range(round((self.high - self.low) / self.step) + 1)]

    def holds(self, value: Any) -> bool:
        """Whether the search could come upon this value."""
        values = self.values()
        return value in values if values is not None else self.low <= value <= self.high

    def plain(self) -> dict[str, Any]:
        """As JSON and TOML have it, with the keys of the recipe's table."""
        found: dict[str, Any] = {"choices": list(self.choices)} if self.choices else {
            "low": int(self.low) if self.kind == "int" else self.low, "high": int(self.high) if self.kind == "int" else self.high}
        if self.log:
            found["log"] = True
        if self.step:
            found["step"] = int(self.step) if self.kind == "int" else self.step
        if self.only_if:
            found["only_if"] = {name: list(values) for name, values in self.only_if}
        return found


@dataclass(frozen=True)
class Space:
    """All settings that vary, those that others depend on first, and what every setting is where it does not vary (`defaults`)."""

    dimensions: tuple[Dimension, ...]
    defaults: tuple[tuple[str, Any], ...]

    @property
    def names(self) -> list[str]:
        return [dimension.name for dimension in self.dimensions]

    @property
    def is_conditional(self) -> bool:
        return any(dimension.only_if for dimension in self.dimensions)

    @property
    def size(self) -> int | None:
        """How many combinations of values there are, conditions aside; None where there is no end of them."""
        counts = [len(dimension.values() or ()) for dimension in self.dimensions]
        return math.prod(counts) or None

    def default(self) -> Settings:
        """The recipe's own values of the settings that vary."""
        return dict(self.defaults)

    def suggest(self, trial: "optuna.Trial") -> Settings:
        """The settings of one trial: suggested where they vary, the recipe's own where their condition does not hold."""
        found = self.default()
        for dimension in self.dimensions:
            if _is_active(dimension, found):
                found[dimension.name] = dimension.suggested(trial)
        return found

    def active(self, settings: Settings) -> Settings:
        """Those settings whose condition holds."""
        return {dimension.name: settings[dimension.name] for dimension in self.dimensions if _is_active(dimension, settings)}

    def holds(self, settings: Settings) -> bool:
        """Whether the search could come upon these settings."""
        active = self.active(settings)
        return all(dimension.holds(settings[dimension.name]) for dimension in self.dimensions if dimension.name in active)

    def grid(self) -> Iterator[Settings]:
        """Every combination once; settings whose condition does not hold do not multiply it.

        Raises:
            LabError: a range has no end of values.
        """
        lists = []
        for dimension in self.dimensions:
            values = dimension.values()
            if values is None:
                raise LabError(f"a grid needs the values of {dimension.name}: give it a list, or a `step`")
            lists.append(values)
        seen = set()
        for values in itertools.product(*lists):
            settings = {**self.default(), **self.active(self._settled(dict(zip(self.names, values, strict=True))))}
            key = tuple(settings[name] for name in self.names)
            if key not in seen:
                seen.add(key)
                yield settings

    def _settled(self, settings: Settings) -> Settings:
        """The settings with those whose condition does not hold at the recipe's value, from the first to the last."""
        found = self.default()
        for dimension in self.dimensions:
            if _is_active(dimension, found):
                found[dimension.name] = settings[dimension.name]
        return found

    def plain(self) -> dict[str, Any]:
        """As JSON and TOML have it."""
        return {dimension.name: dimension.plain() for dimension in self.dimensions}


def read(path: str | os.PathLike, data: "TaskData | None" = None) -> tuple[Recipe, Space]:
    """Read a recipe's TOML with its table `[search]`.

    Args:
        data: a task's own data in place of the scenario's: what the file leaves out is then as the task's preset has it, also the `monitor`
            by which trials are compared (`presets.monitor`).

    Raises:
        LabError: there is no such table, or what is wrong in it; names file and key.
    """
    raw = files.read_toml(path)
    table = raw.pop("search", None)
    if table is None:
        raise LabError(f"{path} has no table [search]; name there what may vary, for example "
                       "learning_rate = {low = 1e-4, high = 1e-2, log = true}")
    if data is None:
        recipe = recipes.from_dict(raw, str(path))
    else:
        from labkit.training import presets

        recipe = presets.from_dict({"monitor": presets.monitor(raw.get("task", data.task), data), **raw}, data, str(path))
    return recipe, of(recipe, table, str(path))


def of(recipe: Recipe, table: Any, where: str = "search") -> Space:
    """The space of a recipe from plain values; see the module's text for the form.

    Raises:
        LabError: what is wrong, with `where` and the key.
    """
    if not isinstance(table, dict) or not table:
        raise LabError(f"{where}: [search] must name at least one setting")
    fields = {field.name: field.type for field in dataclasses.fields(Recipe)}
    dimensions = []
    for name, given in table.items():
        place = f"{where}, search.{name}"
        if name not in fields:
            raise LabError(f"{place}: not a setting of a recipe")
        if name in _FIXED:
            raise LabError(f"{place}: cannot be searched: {_FIXED[name]}")
        if fields[name] not in (int, float, str, bool):
            raise LabError(f"{place}: only numbers, names and true or false can be searched")
        dimensions.append(_dimension(name, fields[name], given, place))
    ordered = _ordered(dimensions, where)
    space = Space(tuple(ordered), tuple((each.name, getattr(recipe, each.name)) for each in ordered))
    _check_ends(recipe, space, where)
    return space


def apply(recipe: Recipe, settings: Settings, **changes: Any) -> Recipe:
    """The recipe with these settings; LabError where they cannot be together."""
    return dataclasses.replace(recipe, **{**settings, **changes})


def _is_active(dimension: Dimension, settings: Settings) -> bool:
    return all(settings[name] in values for name, values in dimension.only_if)


def _dimension(name: str, kind: type, given: Any, place: str) -> Dimension:
    if isinstance(given, list):
        given = {"choices": given}
    if not isinstance(given, dict):
        raise LabError(f"{place}: must be a list of values, or {{low = …, high = …}}, not {given!r}")
    unknown = set(given) - set(_KEYS)
    if unknown:
        raise LabError(f"{place}: unknown key {sorted(unknown)[0]}; known: {', '.join(_KEYS)}")
    only_if = _conditions(given.get("only_if", {}), place)
    if "choices" in given:
        if set(given) & {"low", "high", "log", "step"}:
            raise LabError(f"{place}: either choices, or low and high")
        return Dimension(name, kind.__name__, _choices(given["choices"], kind, place), only_if=only_if)
    if kind not in (int, float):
        raise LabError(f"{place}: is no number; give a list of values")
    return _range(name, kind, given, only_if, place)


def _choices(values: Any, kind: type, place: str) -> tuple[Any, ...]:
    if not isinstance(values, list) or len(values) < 2:
        raise LabError(f"{place}: choices must be a list of at least two values")
    if kind is float:
        values = [float(value) if type(value) is int else value for value in values]
    for value in values:
        if type(value) is not kind:
            raise LabError(f"{place}: {value!r} is not of the setting's type, {kind.__name__}")
    if len(set(values)) < len(values):
        raise LabError(f"{place}: a value stands there twice")
    return tuple(values)


def _range(name: str, kind: type, given: dict[str, Any], only_if: tuple, place: str) -> Dimension:
    for key in ("low", "high"):
        if key not in given:
            raise LabError(f"{place}: {key} is missing")
    numbers = {key: given[key] for key in ("low", "high", "step") if key in given}
    for key, value in numbers.items():
        if type(value) is not int and (kind is int or type(value) is not float):
            raise LabError(f"{place}: {key} must be {'a whole number' if kind is int else 'a number'}, not {value!r}")
    low, high, step, log = given["low"], given["high"], given.get("step", 0), given.get("log", False)
    if type(log) is not bool:
        raise LabError(f"{place}: log must be true or false")
    if not low < high:
        raise LabError(f"{place}: low ({low}) must be below high ({high})")
    if log and low <= 0:
        raise LabError(f"{place}: with log, low must be above 0")
    if log and step:
        raise LabError(f"{place}: either log or step")
    if "step" in given and step <= 0:
        raise LabError(f"{place}: step must be above 0")
    if step and abs((high - low) / step - round((high - low) / step)) > 1e-9:
        raise LabError(f"{place}: high must be low plus a multiple of step")
    return Dimension(name, kind.__name__, (), float(low), float(high), log, float(step), only_if)


def _conditions(given: Any, place: str) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    if not isinstance(given, dict):
        raise LabError(f"{place}: only_if must be a table, for example {{method = \"lora\"}}")
    return tuple((name, tuple(values) if isinstance(values, list) else (values,)) for name, values in given.items())


def _ordered(dimensions: list[Dimension], where: str) -> list[Dimension]:
    """Those that others depend on first, else as they stand."""
    known = {dimension.name: dimension for dimension in dimensions}
    for dimension in dimensions:
        for name, values in dimension.only_if:
            place = f"{where}, search.{dimension.name}.only_if"
            if name not in known:
                raise LabError(f"{place}: {name} is not searched, so that it always holds or never does")
            for value in values:
                if not _can_be(known[name], value):
                    raise LabError(f"{place}: {name} can never be {value!r}")
    ordered: list[Dimension] = []
    while len(ordered) < len(dimensions):
        placed = {dimension.name for dimension in ordered}
        ready = [each for each in dimensions if each not in ordered and all(name in placed for name, _ in each.only_if)]
        if not ready:
            left = [each.name for each in dimensions if each not in ordered]
            raise LabError(f"{where}, search: {' and '.join(left)} wait for each other in only_if")
        ordered.append(ready[0])
    return ordered


def _can_be(dimension: Dimension, value: Any) -> bool:
    fits = type(value).__name__ == dimension.kind or (dimension.kind == "float" and type(value) is int)
    return fits and dimension.holds(value)


def _check_ends(recipe: Recipe, space: Space, where: str) -> None:
    """Make a recipe with each end of each range, its conditions holding; LabError says which end cannot be."""
    by_name = {dimension.name: dimension for dimension in space.dimensions}
    for dimension in space.dimensions:
        needed = dict(_needed(dimension, by_name))
        for value in dimension.choices or _ends(dimension):
            try:
                apply(recipe, {**needed, dimension.name: value})
            except LabError as error:
                raise LabError(f"{where}, search.{dimension.name}: {value!r} cannot be: {error}") from None


def _needed(dimension: Dimension, by_name: dict[str, Dimension]) -> Iterator[tuple[str, Any]]:
    for name, values in dimension.only_if:
        yield name, values[0]
        yield from _needed(by_name[name], by_name)


def _ends(dimension: Dimension) -> tuple[Any, Any]:
    kind = int if dimension.kind == "int" else float
    return kind(dimension.low), kind(dimension.high)

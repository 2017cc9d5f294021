"""What a search is made of: its plan, and Optuna's samplers, pruners and storages for it.

This module knows nothing about trials.
"""

import hashlib
import socket
import sqlite3
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from labkit.errors import LabError
from labkit.training.search.space import Settings, Space

if TYPE_CHECKING:
    import optuna

SAMPLERS = ("tpe", "random", "grid", "cma_es", "gp")
PRUNERS = ("asha", "hyperband", "median", "none")
DIRECTIONS = ("minimise", "maximise")
_BUSY_SECONDS = 60


@dataclass(frozen=True)
class Plan:
    """A search, as every worker is given it.

    Attributes:
        folder: of the search: locks, and the SQLite file where no other storage is named.
        trials: how many settings are tried in all; 0: no limit.
        deadline: the time (seconds since 1970) after which no trial begins; 0: none.
        sampler: `tpe` (Bergstra et al. 2011, with all settings together and conditions in groups), `random`, `grid`, `cma_es` (Hansen 2016;
            needs the package cmaes) or `gp` (a Gaussian process).
        pruner: `asha` (asynchronous successive halving, Li et al. 2020, https://arxiv.org/abs/1810.05934), `hyperband` (Li et al. 2018,
            https://arxiv.org/abs/1603.06560), `median`, or `none`.
        reduction: of `asha` and `hyperband`: one trial of so many goes on at each rung.
        most_steps: of `hyperband`: how many values a whole trial reports; 0: as many as the first whole trial did.
        storage: empty: `study.sqlite` in the folder; else an SQLAlchemy URL.
        name: of the study, among others of the same database.
        identity: what the search is of (recipe, data …); a search of something else is not gone on with.
        first: settings that are tried before any are suggested.
    """

    folder: Path
    space: Space
    trials: int = 20
    deadline: float = 0.0
    sampler: str = "tpe"
    pruner: str = "asha"
    reduction: int = 3
    most_steps: int = 0
    direction: str = "minimise"
    storage: str = ""
    name: str = "search"
    seed: int = 0
    identity: dict[str, Any] = field(default_factory=dict)
    first: tuple[Settings, ...] = ()

    def __post_init__(self) -> None:
        for key, known in (("sampler", SAMPLERS), ("pruner", PRUNERS), ("direction", DIRECTIONS)):
            if getattr(self, key) not in known:
                raise LabError(f"search: {key} must be one of {', '.join(known)}, not {getattr(self, key)!r}")
        for key, least in (("trials", 0), ("reduction", 2), ("most_steps", 0), ("seed", 0)):
            if type(getattr(self, key)) is not int or getattr(self, key) < least:
                raise LabError(f"search: {key} must be a whole number of at least {least}, not {getattr(self, key)!r}")

    @property
    def url(self) -> str:
        return self.storage or f"sqlite:///{quote(str(Path(self.folder).resolve() / 'study.sqlite'))}"

    @property
    def is_local(self) -> bool:
        """Whether all workers are on this machine."""
        return self.url.startswith("sqlite")


def sampler(plan: Plan, number: int) -> "optuna.samplers.BaseSampler":
    """The sampler for the trial before which there were `number`; LabError where a package is missing."""
    import optuna

    host = "" if plan.is_local else socket.gethostname()
    seed = int.from_bytes(hashlib.sha256(f"{plan.seed} {number} {host}".encode()).digest()[:4])
    if plan.sampler in ("random", "grid"):
        return optuna.samplers.RandomSampler(seed=seed)
    startup = min(10, max(4, plan.trials // 4)) if plan.trials else 10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if plan.sampler == "tpe":
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=plan.space.is_conditional, n_startup_trials=startup)
        if plan.sampler == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup, deterministic_objective=False)
        try:
            import cmaes  # noqa: F401
        except ImportError:
            raise LabError("search: sampler cma_es needs the package cmaes: pip install cmaes") from None
        return optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)


def pruner(plan: Plan) -> "optuna.pruners.BasePruner":
    """What decides, at each reported value, whether a trial goes on."""
    from optuna import pruners

    if plan.pruner == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=plan.reduction)
    if plan.pruner == "hyperband":
        return pruners.HyperbandPruner(min_resource=1, max_resource=plan.most_steps or "auto", reduction_factor=plan.reduction)
    return pruners.MedianPruner(n_startup_trials=4) if plan.pruner == "median" else pruners.NopPruner()


def storage(plan: Plan) -> "optuna.storages.BaseStorage":
    """Where the trials are kept; LabError where it cannot be used."""
    import optuna
    import sqlalchemy.exc

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    options: dict[str, Any] = {"connect_args": {"timeout": _BUSY_SECONDS}} if plan.is_local else {"pool_pre_ping": True}
    try:
        if plan.is_local and not plan.storage:
            with sqlite3.connect(Path(plan.folder) / "study.sqlite", timeout=_BUSY_SECONDS) as opened:
                opened.execute("PRAGMA journal_mode = WAL")  # readers do not wait for a writer
            opened.close()
        return optuna.storages.RDBStorage(plan.url, engine_kwargs=options)
    except (sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, OSError, ImportError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise LabError(f"search: {place(plan)} cannot be used: {reason}") from error


def place(plan: Plan) -> str:
    """The storage as it may be shown: a file, or a URL without its password."""
    import sqlalchemy

    if not plan.storage:
        return str(Path(plan.folder) / "study.sqlite")
    try:
        return sqlalchemy.make_url(plan.storage).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return "the storage"

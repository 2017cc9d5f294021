"""The step that takes personal data out of records."""

from labkit.data.privacy import protection
from labkit.data.steps import Outcome, record_step
from labkit.records import Record
from labkit.scenarios import Scenario


@record_step("Protect personal data", "保护个人信息")
def protect(record: Record, scenario: Scenario, *, mode: str = "mask", kinds: str = "all", names: bool = True) -> Outcome:
    """Finds names, numbers, addresses and secrets of people, counts them by kind and replaces them.

    `mode`: `mask` writes [EMAIL], `number` writes [EMAIL 1] (the same for the same value within a record), `pseudonymise` an invented
    value of the same shape (needs a secret in the environment variable LABKIT_PRIVACY_KEY), `flag` only counts. `kinds`: `all`, or
    some of `labkit.data.privacy.KINDS` separated by commas. `names`: whether persons' names are looked for. The counts stay in
    `meta.privacy`, the texts nowhere.
    """
    done = protection.protect(record, scenario, mode, *protection.settings(mode, kinds, names))
    return Outcome(done.record, done.counts)

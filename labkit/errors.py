"""The one kind of error a user can cause."""


class LabError(Exception):
    """A mistake the user can mend: one line that says what is wrong, where, and what to do.

    The command line prints it and exits with 2. Every other exception is a bug and may trace.
    """

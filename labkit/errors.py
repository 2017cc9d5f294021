"""The one kind of error a user can cause."""


class LabError(Exception):
    """A mistake the user can mend: one line that says what is wrong, where, and what to do.

    The command line prints it and exits with 2. Every other exception is a bug and may trace. What an evaluator may meet in the
    app has a line in Chinese too (`zh`).
    """

    def __init__(self, message: str, zh: str = "") -> None:
        super().__init__(message)
        self.zh = zh

    def said(self, language: str) -> str:
        """The line in `en` or `zh`; the English one where there is no other."""
        return self.zh if language == "zh" and self.zh else str(self)

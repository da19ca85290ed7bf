"""Rendering errors."""


class RenderingError(Exception):
    """A document could not be drawn; its file is unchanged.

    Attributes
    ----------
    number
        Number of the document.
    cause
        Cause in words.
    """

    def __init__(self, number: str, cause: str) -> None:
        self.number = number
        self.cause = cause
        super().__init__(f"{number}: {cause}")

    def __reduce__(self) -> tuple[type["RenderingError"], tuple[str, str]]:
        """Pickle both arguments for the way from a worker; the default keeps only the message."""
        return type(self), (self.number, self.cause)


class MachineError(RenderingError):
    """No document can be drawn on this machine: the document is not at fault."""


class WorkerDiedError(RenderingError):
    """The worker crashed on the document, or was killed."""


class ContentError(ValueError):
    """A value of the stored content violates the schema of documents."""


class UnableError(Exception):
    """This machine cannot draw documents at all."""


class TimeLimitError(Exception):
    """Drawing exceeded the time limit for a document of this length."""

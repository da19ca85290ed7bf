"""Why a document could not be drawn."""


class RenderingError(Exception):
    """A document could not be drawn; nothing stands under its name that was not there before.

    Attributes
    ----------
    number
        Number of the document.
    cause
        What went wrong, in words.
    """

    def __init__(self, number: str, cause: str) -> None:
        self.number = number
        self.cause = cause
        super().__init__(f"{number}: {cause}")

    def __reduce__(self) -> tuple[type["RenderingError"], tuple[str, str]]:
        """Errors travel from the workers; by default only the message would."""
        return type(self), (self.number, self.cause)


class MachineError(RenderingError):
    """No document can be drawn here: the fault is not that of the document."""


class WorkerDiedError(RenderingError):
    """The worker that drew the document died of it, or was killed."""


class ContentError(ValueError):
    """A value of the stored content is not what the contract of a document says."""


class UnableError(Exception):
    """This machine cannot draw documents at all."""


class TimeLimitError(Exception):
    """Drawing took longer than a document of this length may."""

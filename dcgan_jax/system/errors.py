"""How a command can end other than well, each with its exit code, and errors as text."""


class InputError(Exception):
    """What the user has to mend: bad input, a damaged file, a full disk."""

    exit_code = 2


class NonFiniteError(Exception):
    """A loss, a gradient or something in the state is no longer a finite number.

    Attributes:
      step: the number of the step that made it so.
      names: what it is, as in the metrics.
      last: the last step whose metrics were finite, and these.
    """

    exit_code = 3
    last: tuple[int, dict[str, float]] | None = None

    def __init__(self, step: int, names: list[str], message: str = ""):
        super().__init__(message or f"step {step}: {', '.join(names)} not finite")
        self.step = step
        self.names = names


class LostPeerError(Exception):
    """Another process of the run has ended or cannot be reached."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again


class Stopped(Exception):
    """Training was asked to stop by a signal, and has saved."""

    def __init__(self, signal: int, message: str):
        super().__init__(message)
        self.exit_code = 128 + signal


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def printable(text: str) -> str:
    """``text`` with what a terminal would obey, or cannot encode, escaped: file names may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

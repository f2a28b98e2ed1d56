"""The exceptions that reach a person as a sentence, and the exit status that each kind has.

0 done · 1 a failure that is ours · 2 the command · 3 the model · 4 the data · 5 the endpoint · 130 interrupted
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something the user can mend. The message names the thing and the remedy, in one sentence.

    Command lines print it and exit with ``status``; the page shows it; nobody sees a traceback. Of this class itself: what the
    command asks for can't be done.
    """

    status = 2


class ModelError(UserError):
    """A checkpoint that is not there, not whole, not safe, or not of the kind needed."""

    status = 3


class DataError(UserError):
    """A data file that is not there, not laid out as it should be, or damaged."""

    status = 4


class EndpointError(UserError):
    """A server that can't be reached, refuses, or doesn't answer as it should."""

    status = 5


@contextmanager
def one_sentence(exit_with: Callable[[int], None] = sys.exit) -> Iterator[None]:
    """Turn a :class:`UserError` (or a full disk, a path that can't be used, or ^C) into one line on standard error and an exit status."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        exit_with(error.status)
    except OSError as error:
        if error.errno in _PATH_ERRORS and error.filename:
            print(f"error: {error.filename} {_PATH_ERRORS[error.errno]}: name another path.", file=sys.stderr)
        elif error.errno in _DISK_ERRORS:
            where = f" while writing {error.filename}" if error.filename else ""
            print(f"error: {_DISK_ERRORS[error.errno]}{where}; nothing half-written was kept.", file=sys.stderr)
        else:
            raise
        exit_with(2)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint.", file=sys.stderr)
        exit_with(130)


_PATH_ERRORS = {
    13: "may not be read or written by this user",
    17: "is there already, and is no folder",
    20: "goes through a file as if it were a folder",
    21: "is a folder, where a file is needed",
    36: "is too long a name",
}
_DISK_ERRORS = {
    27: "a file would be larger than this process may write (ulimit -f)",
    28: "the disk is full: free some space and run the command again",
    30: "the folder is read-only",
    122: "the disk quota is used up",
}

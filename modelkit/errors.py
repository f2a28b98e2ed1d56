"""The one exception that reaches a person as a sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something the user can mend. The message names the thing and the remedy, in one sentence.

    Command lines print it and exit with status 2; the page shows it; nobody sees a traceback.
    """


@contextmanager
def one_sentence(exit_with: Callable[[int], None] = sys.exit) -> Iterator[None]:
    """Turn a :class:`UserError` (or a full disk, or ^C) into one line on standard error and an exit status."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        exit_with(2)
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        print(f"error: {_DISK_ERRORS[error.errno]}{where}; nothing half-written was kept.", file=sys.stderr)
        exit_with(2)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint.", file=sys.stderr)
        exit_with(130)


_DISK_ERRORS = {
    28: "the disk is full: free some space and run the command again",
    30: "the folder is read-only",
    122: "the disk quota is used up",
}

"""The store of what people gave: votes, and the conversations they let the operator keep. SQLite by default, PostgreSQL by URL.

Every call is one transaction that is on the disk when it returns. A column is a field of the record, so a row needs no parsing and
a question to the store can be asked in SQL; nothing in it names a person or an address.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import sqlalchemy as sql
from pydantic import BaseModel
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as NoConnectionLeft

from leaderboards.votes.acceptance import Rules, Sorted, sort_out
from modelkit.errors import UserError
from modelkit.records import Conversation, Vote

SCHEMA = 1
"""The version of the tables below; a store of another version is left alone."""
VARIABLE = "PLAYGROUND_STORE"
FILE = "votes.sqlite"
"""What the store is called inside a folder of runs, where the variable names no other."""

_BUSY_SECONDS = 30
_LOCK = 0x766F7465
"""PostgreSQL's advisory lock of those who must be alone; any number that nothing else uses."""
_FEW = 500
"""Ids in one statement, rows in one fetch."""

_metadata = sql.MetaData()
_about = sql.Table("about", _metadata, sql.Column("schema", sql.Integer, nullable=False))
_votes = sql.Table(
    "votes",
    _metadata,
    sql.Column("id", sql.String, primary_key=True),
    sql.Column("format", sql.Integer, nullable=False),
    sql.Column("time", sql.Double, nullable=False),
    sql.Column("session", sql.String, nullable=False),
    sql.Column("a", sql.JSON, nullable=False),
    sql.Column("b", sql.JSON, nullable=False),
    sql.Column("winner", sql.String, nullable=False),
    sql.Column("blind", sql.Boolean, nullable=False),
    sql.Column("language", sql.String),
    sql.Column("category", sql.String),
    sql.Column("sampling", sql.JSON, nullable=False),
    sql.Column("reward_model", sql.String),
    sql.Column("seconds", sql.Double),
    sql.Column("status", sql.String, nullable=False),
    sql.Column("agreed", sql.Boolean),  # the one that is no field: it follows from the sides, and is counted while people vote
    sql.Index("votes_by_status", "status", "time", "id"),
    sql.Index("votes_by_reward_model", "reward_model", "agreed"),
)
_conversations = sql.Table(
    "conversations",
    _metadata,
    sql.Column("id", sql.String, primary_key=True),
    sql.Column("format", sql.Integer, nullable=False),
    sql.Column("time", sql.Double, nullable=False),
    sql.Column("session", sql.String, nullable=False),
    sql.Column("consent", sql.String, nullable=False),
    sql.Column("checkpoint", sql.String, nullable=False),
    sql.Column("fingerprint", sql.String, nullable=False),
    sql.Column("messages", sql.JSON, nullable=False),
    sql.Column("language", sql.String),
)

_Record = TypeVar("_Record", bound=BaseModel)


class Tally(NamedTuple):
    """How often a reward model agreed: of *n* votes that preferred one reply, and had rewards, so many."""

    agreed: int
    n: int


def address(named: str | None, runs: Path) -> str:
    """The URL of the store that is *named* (by a URL or a path), else by ``PLAYGROUND_STORE``, else of the one in *runs*."""
    named = named or os.environ.get(VARIABLE) or str(runs / FILE)
    return named if "://" in named else f"sqlite:///{Path(named).absolute()}"


class Store:
    """The votes and conversations behind one URL. Safe to use from many threads, processes and machines at once.

    Every method raises :class:`UserError` when the database can't be reached or can't keep what it is given.
    """

    def __init__(self, url: str, create: bool = True) -> None:
        """Open the store, making its tables where there are none yet.

        :raises UserError: when the URL is none, its driver is missing, the tables are of another version, or, unless *create*,
            when there is no file at that place.
        """
        try:
            self._url = sql.make_url(url)
            self.name = self._url.database or "" if self._sqlite else self._url.render_as_string(hide_password=True)
            if self._sqlite and not create and not Path(self.name).is_file():
                raise UserError(f"there is no store at {self.name}: name one by its path or its URL.")
            wait = {"timeout": _BUSY_SECONDS} if self._sqlite else {"connect_timeout": _BUSY_SECONDS}
            self._engine = sql.create_engine(self._url, connect_args=wait, pool_pre_ping=not self._sqlite, pool_timeout=_BUSY_SECONDS)
        except (ArgumentError, NoSuchModuleError):
            raise UserError("that is no database's URL: write a path, or postgresql+psycopg://user:password@host/database.") from None
        except ModuleNotFoundError as missing:
            raise UserError(
                f"the driver {missing.name} is not installed: pip install 'psycopg[binary]', and write postgresql+psycopg://… ."
            ) from None
        if self._sqlite:
            sql.event.listen(self._engine, "connect", _prepare_sqlite)
            sql.event.listen(self._engine, "begin", _begin_sqlite)
        with self._alone() as connection:
            self._settle_schema(connection)

    @property
    def _sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    def add(self, vote: Vote) -> None:
        """Keep a vote. It is on the disk when this returns.

        :raises UserError: when a vote with its id is there already.
        """
        try:
            with self._alone() as connection:
                connection.execute(_votes.insert().values(**vote.model_dump(mode="json"), agreed=vote.agreed))
        except IntegrityError:
            raise UserError("this vote has been counted already.") from None

    def keep(self, conversation: Conversation) -> None:
        """Keep a conversation, in place of an earlier state of the same one."""
        with self._alone() as connection:
            connection.execute(_conversations.delete().where(_conversations.c.id == conversation.id))
            connection.execute(_conversations.insert().values(**conversation.model_dump(mode="json")))

    def votes(self, status: str | None = None) -> Iterator[Vote]:
        """The votes with a status (``None``: all), the oldest first. What is added meanwhile doesn't appear."""
        with self._reading() as connection:
            yield from _read(connection, _votes, Vote, status)

    def youngest(self, count: int, status: str | None = None) -> list[Vote]:
        """The last votes, the youngest last."""
        with self._reading() as connection:
            return list(_read(connection, _votes, Vote, status, count))[::-1]

    def conversations(self) -> Iterator[Conversation]:
        """The conversations, the oldest first."""
        with self._reading() as connection:
            yield from _read(connection, _conversations, Conversation)

    def counts(self) -> dict[str, int]:
        """How many votes have which status."""
        asked = sql.select(_votes.c.status, sql.func.count().label("n")).group_by(_votes.c.status)
        with self._reading() as connection:
            return {row.status: row.n for row in connection.execute(asked)}

    def tally(self, reward_model: str) -> Tally:
        """How often the reward model with this fingerprint agreed with blind votes that nobody has rejected."""
        counted = (_votes.c.reward_model == reward_model, _votes.c.agreed.is_not(None), _votes.c.blind, _votes.c.status != "rejected")
        asked = sql.select(_votes.c.agreed, sql.func.count()).where(*counted).group_by(_votes.c.agreed)
        with self._reading() as connection:
            found = {bool(agreed): count for agreed, count in connection.execute(asked)}
        return Tally(found.get(True, 0), sum(found.values()))

    def accept(self, ids: Sequence[str]) -> int:
        """Accept votes, whatever the rules say of them; returns how many changed.

        :raises UserError: when an id is unknown.
        """
        with self._alone() as connection:
            return _mark(connection, ids, "accepted")

    def accept_new(self, rules: Rules) -> Sorted:
        """Accept the new votes that keep to the rules. Nothing is added or accepted by others meanwhile."""
        with self._alone() as connection:
            found = sort_out(_read(connection, _votes, Vote), rules)
            _mark(connection, found.accepted, "accepted")
            return found

    def reject(self, ids: Sequence[str]) -> int:
        """Reject votes; returns how many changed.

        :raises UserError: when an id is unknown.
        """
        with self._alone() as connection:
            return _mark(connection, ids, "rejected")

    def delete(self, ids: Sequence[str]) -> int:
        """Delete votes and conversations for good, from SQLite's free pages and log as well; returns how many there were.

        :raises UserError: when they are deleted, but somebody has been reading for so long that SQLite's log still holds them.
        """
        with self._alone() as connection:
            gone = sum(
                connection.execute(table.delete().where(table.c.id.in_(some))).rowcount
                for table in (_votes, _conversations)
                for some in _batches(ids)
            )
        if self._sqlite:
            with self._answering(), self._engine.connect() as connection:
                kept = connection.execution_options(outside=True).exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar()
            if kept:
                raise UserError(f"deleted: {gone:,}, but the log of {self.name} still holds them while others read it: delete them again.")
        return gone

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _settle_schema(self, connection: sql.Connection) -> None:
        if not sql.inspect(connection).has_table(_about.name):
            _metadata.create_all(connection, checkfirst=False)  # tables of another program are an error, not ours to fill
            connection.execute(_about.insert().values(schema=SCHEMA))
        version = connection.scalar(sql.select(_about.c.schema))
        if version != SCHEMA:
            raise UserError(f"the store {self.name} has schema {version}, this version reads {SCHEMA}: use the version that made it.")

    @contextmanager
    def _alone(self) -> Iterator[sql.Connection]:
        """A transaction that no other writer's runs beside."""
        with self._answering(), self._engine.begin() as connection:
            if not self._sqlite:
                connection.execute(sql.select(sql.func.pg_advisory_xact_lock(_LOCK)))
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[sql.Connection]:
        """A transaction that sees one state of the store and keeps nobody waiting."""
        with self._answering(), self._engine.connect() as connection:
            yield connection.execution_options(reading=True)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn what a database complains about into a sentence."""
        try:
            yield
        except IntegrityError:
            raise
        except NoConnectionLeft:
            raise UserError(f"the store {self.name} can't be used: too many are using it at once, try again.") from None
        except DBAPIError as error:
            complaint = str(error.orig).strip().splitlines()[0].rstrip(".")
            raise UserError(f"the store {self.name} can't be used: {complaint}.") from None


def _prepare_sqlite(connection, _) -> None:
    """Write-ahead log, on the disk at every commit; transactions begin when we say so; what is deleted is overwritten."""
    connection.isolation_level = None
    for setting in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
        connection.execute(f"PRAGMA {setting}")


def _begin_sqlite(connection: sql.Connection) -> None:
    """Writers queue up at the beginning, where waiting is allowed; a reader that turned into a writer half-way would fail."""
    options = connection.get_execution_options()
    if not options.get("outside"):
        connection.exec_driver_sql("BEGIN" if options.get("reading") else "BEGIN IMMEDIATE")


def _read(
    connection: sql.Connection, table: sql.Table, record: type[_Record], status: str | None = None, youngest: int | None = None
) -> Iterator[_Record]:
    """The rows of a table as records, the oldest first; or some of the youngest, the youngest first."""
    asked = sql.select(*(table.c[name] for name in record.model_fields))
    if status:
        asked = asked.where(table.c.status == status)
    if youngest is None:
        asked = asked.order_by(table.c.time, table.c.id)
    else:
        asked = asked.order_by(table.c.time.desc(), table.c.id.desc()).limit(youngest)
    for row in connection.execute(asked, execution_options={"yield_per": _FEW}).mappings():
        yield record.model_validate(dict(row))


def _mark(connection: sql.Connection, ids: Sequence[str], status: str) -> int:
    changed = 0
    for some in _batches(ids):
        known = set(connection.scalars(sql.select(_votes.c.id).where(_votes.c.id.in_(some))))
        if unknown := next((one for one in some if one not in known), None):
            raise UserError(f"there is no vote {unknown}: `leaderboards votes list` shows the ids.")
        update = _votes.update().where(_votes.c.id.in_(some), _votes.c.status != status).values(status=status)
        changed += connection.execute(update).rowcount
    return changed


def _batches(ids: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while some := list(islice(rest, _FEW)):
        yield some

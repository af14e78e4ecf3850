"""The tables, as of the newest version.

A record's `place` holds the number of its run in the upper bits and its position in the run's journal in the lower:
so one tree is in the order of writing, new records go to its end, and no index has to be kept. The place in the
workflow, scope and node, is not unique: of several records the last one counts.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Double, Index, Integer, LargeBinary, MetaData, Table, Text

POSITION_BITS: Final = 36
"""Room for 68 thousand million positions in each of 134 million runs."""

metadata = MetaData()

_Number = BigInteger().with_variant(Integer, "sqlite")

versions = Table("cascade_schema_version", metadata, Column("version", Integer, nullable=False))

runs = Table(
    "cascade_runs",
    metadata,
    # Numbers are not used again: what an owner still knows by number must not meet another run.
    Column("number", _Number, primary_key=True),
    Column("key", LargeBinary, nullable=False, unique=True),
    Column("run_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("target", Text, nullable=False),
    Column("params", LargeBinary, nullable=False),
    Column("program", Text),
    Column("error", Text),
    Column("checksum", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

# Apart from the runs: every write renews the lease, and what it rewrites should be small.
owners = Table(
    "cascade_owners",
    metadata,
    Column("run", _Number, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("host", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("claim", LargeBinary, nullable=False),
    Column("lease_until", Double, nullable=False),
    Column("updated", Double, nullable=False),
    # How many records the run has, so that one that got lost is missed.
    Column("records", BigInteger, nullable=False),
    Column("checksum", BigInteger, nullable=False),
)

records = Table(
    "cascade_records",
    metadata,
    Column("place", _Number, primary_key=True, autoincrement=False),
    Column("scope", LargeBinary, nullable=False),
    Column("node", LargeBinary, nullable=False),
    Column("kind", Text, nullable=False),
    Column("turn", BigInteger, nullable=False),
    Column("label", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("began", Double, nullable=False),
    Column("ended", Double, nullable=False),
    Column("detail", Text),
    Column("preview", Text),
    Column("payload", LargeBinary),
    Column("file", LargeBinary),
    Column("inner", LargeBinary),
    Column("checksum", BigInteger, nullable=False),
)
Index(
    "cascade_records_file",
    records.c.file,
    sqlite_where=records.c.file.is_not(None),
    postgresql_where=records.c.file.is_not(None),
)

lines = Table(
    "cascade_lines",
    metadata,
    Column("run", _Number, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("source", Text, nullable=False),
    Column("place", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
    Column("checksum", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

signals = Table(
    "cascade_signals",
    metadata,
    # Numbers are not used again: a signal taken a second time must not be another one.
    Column("number", _Number, primary_key=True),
    Column("token", LargeBinary, nullable=False, unique=True),
    Column("key", LargeBinary, nullable=False, index=True),
    Column("run_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("sent", Double, nullable=False),
    Column("checksum", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

cache = Table(
    "cascade_cache",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("text", Text, nullable=False),
    Column("payload", LargeBinary),
    Column("file", LargeBinary),
    Column("size", BigInteger, nullable=False),
    Column("expires", Double),
    Column("used", Double, nullable=False, index=True),
    Column("checksum", BigInteger, nullable=False),
)
Index(
    "cascade_cache_file",
    cache.c.file,
    sqlite_where=cache.c.file.is_not(None),
    postgresql_where=cache.c.file.is_not(None),
)

settings = Table(
    "cascade_settings",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("name", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("expires", Double),
    Column("checksum", BigInteger, nullable=False),
)

# Slots and tokens have no checksums: they pass with their time, and whatever is wrong in them with it.
slots = Table(
    "cascade_slots",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("holder_key", LargeBinary, primary_key=True, index=True),
    Column("scope", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("until", Double, nullable=False),
    # Of the change that was made last, so that it knows itself when repeated.
    Column("claim", LargeBinary, nullable=False),
)

tokens = Table(
    "cascade_tokens",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("tokens", Double, nullable=False),
    Column("at", Double, nullable=False),
    # A bucket that is full again is one that nobody has used.
    Column("full", Double, nullable=False),
    Column("claim", LargeBinary, nullable=False),
)

# One row: the sum of all sizes, so that keeping a value needs no look at all others.
cache_size = Table("cascade_cache_size", metadata, Column("bytes", BigInteger, nullable=False))

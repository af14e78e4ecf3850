"""Every statement of the store, in the SQL of one dialect, with its parameters by position."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    ColumnElement,
    Integer,
    Table,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from cascade.adapters.stores.sql.schema import (
    cache,
    cache_size,
    lines,
    owners,
    records,
    runs,
    settings,
    signals,
    slots,
    tokens,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import ClauseElement
    from sqlalchemy.engine.interfaces import Dialect


class Statements:
    """The statements as text: what is prepared once costs a call nothing but its values."""

    def __init__(self, dialect: Dialect) -> None:
        def sql(statement: ClauseElement, *parameters: str) -> str:
            compiled: Any = statement.compile(dialect=dialect)
            assert tuple(compiled.positiontup or ()) == parameters, (compiled.positiontup, parameters)
            return str(compiled)

        def insertion(table: Table, *, without: Collection[str] = ()) -> str:
            columns = [column.name for column in table.columns if column.name not in without]
            values: dict[str, Any] = {name: bindparam(name) for name in columns}
            return sql(insert(table).values(values).inline(), *columns)

        def given(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
            return column == bindparam(name)

        in_range = records.c.place.between(bindparam("first"), bindparam("last"))

        one_run = select(
            runs.c.number,
            runs.c.key,
            runs.c.run_id,
            runs.c.status,
            runs.c.created,
            runs.c.target,
            runs.c.params,
            runs.c.program,
            runs.c.error,
            runs.c.checksum,
            owners.c.epoch,
            owners.c.host,
            owners.c.owner,
            owners.c.claim,
            owners.c.checksum.label("owner_checksum"),
            owners.c.lease_until,
            owners.c.updated,
            owners.c.records,
        ).join_from(runs, owners, owners.c.run == runs.c.number, isouter=True)
        self.find_run = sql(one_run.where(given(runs.c.key, "key_")), "key_")
        self.all_runs = sql(one_run.order_by(runs.c.created.desc(), runs.c.number.desc()))
        self.run_number = sql(select(runs.c.number).where(given(runs.c.key, "key_")), "key_")
        self.add_run = insertion(runs, without={"number"})
        self.add_owner = insertion(owners)
        self.set_status = sql(
            update(runs)
            .where(given(runs.c.number, "number_"))
            .values(status=bindparam("status"), error=bindparam("error"), checksum=bindparam("checksum")),
            "status",
            "error",
            "checksum",
            "number_",
        )
        self.set_owner = sql(
            update(owners)
            .where(given(owners.c.run, "run_"), given(owners.c.epoch, "epoch_"))
            .values({name: bindparam(name) for name in _OWNER}),
            *_OWNER,
            "run_",
            "epoch_",
        )
        self.renew_lease = sql(
            update(owners)
            .where(given(owners.c.run, "run_"), given(owners.c.epoch, "epoch_"))
            .values({name: bindparam(name) for name in ("lease_until", "updated", "records")}),
            "lease_until",
            "updated",
            "records",
            "run_",
            "epoch_",
        )
        self.count_records = sql(
            update(owners)
            .where(given(owners.c.run, "run_"), given(owners.c.epoch, "epoch_"))
            .values({name: bindparam(name) for name in ("updated", "records")}),
            "updated",
            "records",
            "run_",
            "epoch_",
        )
        self.hold_owner = sql(
            update(owners)
            .where(given(owners.c.run, "run_"), given(owners.c.epoch, "epoch_"))
            .values(epoch=owners.c.epoch),
            "run_",
            "epoch_",
        )
        self.remove_run = sql(delete(runs).where(given(runs.c.number, "number_")), "number_")
        self.remove_owner = sql(delete(owners).where(given(owners.c.run, "run_")), "run_")

        self.records = sql(select(records).where(in_range).order_by(records.c.place), "first", "last")
        self.outline = sql(
            select(*(column for column in records.columns if column.name not in NOT_IN_OUTLINE))
            .where(in_range)
            .order_by(records.c.place),
            "first",
            "last",
        )
        self.places = sql(
            select(records.c.place, records.c.scope, records.c.node, records.c.kind, records.c.file)
            .where(in_range)
            .order_by(records.c.place),
            "first",
            "last",
        )
        self.add_record = insertion(records)
        self.add_result = insertion(records, without=NOT_OF_RESULTS)
        self.replace_record = sql(
            update(records)
            .where(given(records.c.place, "place_"))
            .values({name: bindparam(name) for name in _REPLACED}),
            *_REPLACED,
            "place_",
        )
        self.drop_scope = sql(
            delete(records).where(in_range, given(records.c.scope, "scope_")), "first", "last", "scope_"
        )
        self.files_of_scope = sql(
            select(records.c.file).where(in_range, given(records.c.scope, "scope_"), records.c.file.is_not(None)),
            "first",
            "last",
            "scope_",
        )
        self.file_of_record = sql(
            select(records.c.file).where(given(records.c.place, "place_"), records.c.file.is_not(None)), "place_"
        )
        self.files_of_run = sql(select(records.c.file).where(in_range, records.c.file.is_not(None)), "first", "last")
        self.remove_records = sql(delete(records).where(in_range), "first", "last")

        of_run = given(lines.c.run, "run_")
        self.add_line = insertion(lines)
        self.lines = sql(
            select(lines).where(of_run, lines.c.number > bindparam("after")).order_by(lines.c.number), "run_", "after"
        )
        self.count_lines = sql(select(func.count()).select_from(lines).where(of_run), "run_")
        self.remove_lines = sql(delete(lines).where(of_run), "run_")
        self.remove_lines_from = sql(delete(lines).where(of_run, lines.c.number >= bindparam("first")), "run_", "first")
        oldest = select(lines.c.number).where(given(lines.c.run, "run_2")).order_by(lines.c.number)
        last_removed = oldest.limit(literal_column("1", Integer)).offset(bindparam("before", type_=Integer))
        self.remove_oldest_lines = sql(
            delete(lines).where(of_run, lines.c.number <= last_removed.scalar_subquery()), "run_", "run_2", "before"
        )

        self.add_signal = insertion(signals, without={"number"})
        self.find_signal = sql(select(signals.c.number).where(given(signals.c.token, "token_")), "token_")
        self.signals = sql(select(signals).where(given(signals.c.key, "key_")).order_by(signals.c.number), "key_")
        self.take_signal = sql(
            delete(signals).where(given(signals.c.number, "number_"), given(signals.c.key, "key_")), "number_", "key_"
        )
        self.remove_signals = sql(delete(signals).where(given(signals.c.key, "key_")), "key_")

        self.find_cached = sql(select(cache).where(given(cache.c.key, "key_")), "key_")
        self.use_cached = sql(
            update(cache).where(given(cache.c.key, "key_")).values(used=bindparam("used")), "used", "key_"
        )
        self.add_cached = insertion(cache)
        self.remove_cached = sql(delete(cache).where(given(cache.c.key, "key_")), "key_")
        self.least_used = sql(select(cache.c.key, cache.c.size, cache.c.file).order_by(cache.c.used))
        self.expired = sql(
            select(cache.c.key, cache.c.size, cache.c.file).where(cache.c.expires <= bindparam("now")), "now"
        )
        # What is added comes first in the statement: the row is locked before its value is read.
        self.grow_cache = sql(update(cache_size).values({"bytes": cache_size.c.bytes + bindparam("added")}), "added")
        self.cache_bytes = sql(select(cache_size.c.bytes))

        self.add_setting = insertion(settings)
        self.all_settings = sql(select(settings).order_by(settings.c.key))
        self.remove_setting = sql(delete(settings).where(given(settings.c.key, "key_")), "key_")
        self.expire_settings = sql(delete(settings).where(settings.c.expires <= bindparam("now")), "now")

        of_holder = (given(slots.c.key, "key_"), given(slots.c.holder_key, "holder_"))
        self.free_slots = sql(
            delete(slots).where(given(slots.c.key, "key_"), slots.c.until <= bindparam("now")), "key_", "now"
        )
        self.slots = sql(
            select(slots.c.holder_key, slots.c.count, slots.c.claim).where(given(slots.c.key, "key_")), "key_"
        )
        self.slots_of = sql(select(slots.c.count, slots.c.claim).where(*of_holder), "key_", "holder_")
        self.add_slots = insertion(slots)
        self.set_slots = sql(
            update(slots).where(*of_holder).values({name: bindparam(name) for name in ("count", "until", "claim")}),
            "count",
            "until",
            "claim",
            "key_",
            "holder_",
        )
        self.leave_slots = sql(
            update(slots).where(*of_holder).values({name: bindparam(name) for name in ("count", "claim")}),
            "count",
            "claim",
            "key_",
            "holder_",
        )
        self.remove_slots = sql(delete(slots).where(*of_holder), "key_", "holder_")
        self.renew_slots = sql(
            update(slots).where(given(slots.c.holder_key, "holder_")).values(until=bindparam("until")),
            "until",
            "holder_",
        )
        self.expire_slots = sql(delete(slots).where(slots.c.until <= bindparam("now")), "now")

        self.find_tokens = sql(
            select(tokens.c.tokens, tokens.c.at, tokens.c.claim).where(given(tokens.c.key, "key_")), "key_"
        )
        self.add_tokens = insertion(tokens)
        self.remove_tokens = sql(delete(tokens).where(given(tokens.c.key, "key_")), "key_")
        self.expire_tokens = sql(delete(tokens).where(tokens.c.full <= bindparam("now")), "now")

        self.file_is_used = sql(
            select(func.count()).where(
                or_(
                    select(records.c.place).where(given(records.c.file, "file_1")).exists(),
                    select(cache.c.key).where(given(cache.c.file, "file_2")).exists(),
                )
            ),
            "file_1",
            "file_2",
        )


NOT_IN_OUTLINE: Final = frozenset({"payload", "file", "checksum"})
"""Of a record, what is not read where its payload is not."""

NOT_OF_RESULTS: Final = frozenset({"detail", "file", "inner"})
"""What a record of a small result does not have. `None` is not given as a value: each costs the driver 0.9 us."""

_OWNER = ("epoch", "host", "owner", "claim", "lease_until", "updated", "records", "checksum")
_REPLACED = tuple(column.name for column in records.columns if column.name not in {"place", "scope", "node"})


_compiled: Final[dict[tuple[str, str], Statements]] = {}


def statements_of(dialect: Dialect) -> Statements:
    """The statements in a dialect, compiled once a process: compiling them takes longer than a small run."""
    key = (dialect.name, dialect.paramstyle)
    found = _compiled.get(key)
    if found is None:
        found = _compiled[key] = Statements(dialect)
    return found

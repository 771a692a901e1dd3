"""
The apply function of a binding: one call, one round trip, one transaction.

Measured against statements in a pipeline and one common-table-expression (stack.md section 12), and
with its input as jsonb, json or arrays: jsonb was quickest for one order. Many rows go by COPY into
temporary tables (`python -m bench writes` tells from how many on), and a second function takes them from there. The
argument is

    {"binding", "topic", "partition", "epoch", "from", "to", "lane_offset",      the compare-and-set; absent in a retry
     "<table>": [rows], "<child table>": [rows], "<table>~": [{"from", "to", "version"}], "<table>-": [{"id", "version"}]}

Only a row whose version is above the stored one, and above a fence, is taken; the children of a taken row
become exactly what came with it, and rows that are equal already are not written. What is deferrable (foreign keys
between entities, and what the target's owner added) is checked at the end, so that no order of rows matters.
"""

from __future__ import annotations

import hashlib

from sink_writers.tables import Column, TargetTable

_FENCE_RULE = """not exists (select from {fence} f
      where f.table_name = {name} and f.record_key = x.{id} and f.version >= x.{version})"""

_RAISE = """insert into {fence} as f (table_name, record_key, version)
      select {name}, x.{id}, x.{version} from {rows}
      on conflict (table_name, record_key) do update set version = excluded.version, fenced_at = now()
      where f.version < excluded.version"""


def stage(table: TargetTable) -> tuple[str, str]:
    """Give name and definition of the temporary table that COPY brings the rows of a table into."""
    name = f"pg_temp.{quote(f'tongbu_{hashlib.sha256(table.name.encode()).hexdigest()[:12]}')}"
    columns = ", ".join(f"{quote(each.name)} {each.sql_type}" for each in brought(table))
    return name, f"create temporary table if not exists {name} ({columns}) on commit delete rows"


def brought(table: TargetTable) -> tuple[Column, ...]:
    """Give what the rows of a table have: its columns, and the version where that is no column."""
    beside = Column(table.version, (), "bigint", "bigint")
    return table.columns if table.keeps_version else (*table.columns, beside)


def apply_function(
    binding: str, schema: str, tables: list[TargetTable], *, staged: bool = False
) -> tuple[str, str]:
    """
    Give name and definition of the function for these tables; the name changes with the definition.

    The `staged` one finds the rows to put in the tables of `stage`, and in the batch only which tables they are of.
    """
    roots = [table for table in tables if table.parent is None]
    writer = _Writer(schema, tables, staged=staged)
    steps = [
        writer.move(),
        "  set constraints all deferred;",
        *(writer.put(root) for root in roots),
        *writer.follow(),
        *(writer.remove(root) for root in reversed(roots)),
        "  set constraints all immediate;",
    ]
    body = "\n".join(steps)
    name = f"tongbu_apply_{binding}_{hashlib.sha256(body.encode()).hexdigest()[:8]}"
    head = f"create or replace function {quote(schema)}.{quote(name)}(batch jsonb) returns text"
    return name, (
        f"{head}\nlanguage plpgsql as $tongbu$\ndeclare taken text[];\nbegin\n{body}\n"
        "  return pg_current_xact_id()::text;\nend $tongbu$"
    )


class _Writer:
    def __init__(self, schema: str, tables: list[TargetTable], *, staged: bool) -> None:
        self._schema = schema
        self._tables = tables
        self._staged = staged

    def move(self) -> str:
        """Move the position if it is where we left it and the epoch is still ours; a repeated call ends here."""
        mine = """p.binding = batch->>'binding' and p.topic = batch->>'topic'
        and p.partition_no = (batch->>'partition')::integer and p.epoch = (batch->>'epoch')::bigint"""
        position = self._own("position")
        return f"""  if batch ? 'to' then
    update {position} p set next_offset = (batch->>'to')::bigint,
        lane_offset = (batch->>'lane_offset')::bigint, moved_at = now()
      where {mine} and p.next_offset = (batch->>'from')::bigint;
    if not found then
      if exists (select from {position} p
          where {mine} and p.next_offset = (batch->>'to')::bigint) then
        return null;
      end if;
      raise exception 'another owner has claimed the position' using errcode = 'TB001';
    end if;
  end if;"""

    def put(self, table: TargetTable) -> str:
        """Upsert the rows of a table and make the children of those that were taken the ones that came."""
        steps = [self._newer(table) if table.keeps_version else self._newer_than_fence(table)]
        steps += [self._difference(child) for child in self._children(table)]
        return f"  if batch ? {_literal(table.name)} then\n" + "\n".join(steps) + "\n  end if;"

    def _newer(self, table: TargetTable) -> str:
        key, version = quote(table.id), quote(table.version)
        fence = _FENCE_RULE.format(
            fence=self._own("fence"), name=_literal(table.name), id=key, version=version
        )
        return f"""    with put as (
      insert into {self._name(table)} as t ({_names(table.columns)})
      select {_names(table.columns, "x.")} from {self._rows(table, table.columns)}
      where {fence}
      on conflict ({key}) do update set {_assign(table.values)} where t.{version} < excluded.{version}
      returning t.{key} as id)
    select coalesce(array_agg(id), '{{}}') into taken from put;"""

    def _newer_than_fence(self, table: TargetTable) -> str:
        """Raise the fences first: in a table without a place for the version they tell what is newer."""
        key, version = quote(table.id), quote(table.version)
        rows = self._rows(table, brought(table))
        raised = _RAISE.format(
            fence=self._own("fence"), name=_literal(table.name), rows=rows, id=key, version=version
        )
        return f"""    with newer as (
      {raised}
      returning f.record_key)
    select coalesce(array_agg(record_key), '{{}}') into taken from newer;
    insert into {self._name(table)} as t ({_names(table.columns)})
      select {_names(table.columns, "x.")} from {rows} where x.{key} in (select unnest(taken))
      on conflict ({key}) do update set {_assign(table.values or table.columns)};"""

    def _difference(self, child: TargetTable) -> str:
        owner, key = map(quote, child.key)
        keys = tuple(column for column in child.columns if column.name in child.key)
        changed = (
            f"do update set {_assign(child.values)}\n"
            f"      where ({_names(child.values, 't.')}) is distinct from ({_names(child.values, 'excluded.')})"
            if child.values
            else "do nothing"
        )
        return f"""    insert into {self._name(child)} as t ({_names(child.columns)})
      select {_names(child.columns, "x.")} from {self._rows(child, child.columns)}
      where x.{owner} in (select unnest(taken))
      on conflict ({owner}, {key}) {changed};
    delete from {self._name(child)} t where t.{owner} in (select unnest(taken)) and not exists (
      select from {self._rows(child, keys)} where x.{owner} = t.{owner} and x.{key} = t.{key});"""

    def follow(self) -> list[str]:
        """Let the rows that refer to an id that has moved, and are older than the move, follow it."""
        return [
            f"""  if batch ? {_literal(reference.table + "~")} then
    update {self._name(table)} t set {quote(reference.column)} = x."to"
      from jsonb_to_recordset(batch->{_literal(reference.table + "~")}) x("from" text, "to" text, version bigint)
      where t.{quote(reference.column)} = x."from" and {self._older(table)};
  end if;"""
            for table in self._tables
            for reference in table.references
        ]

    def _older(self, table: TargetTable) -> str:
        """Give the condition that a row `t`, or its owner, is older than `x`."""
        root = next(each for each in self._tables if each.name == (table.parent or table.name))
        if not root.keeps_version:
            rule = _FENCE_RULE.replace("x.{id}", "t.{id}").replace("x.{version}", "x.version")
            name = _literal(root.name)
            return rule.format(fence=self._own("fence"), name=name, id=quote(table.id))
        version = quote(root.version)
        if root is table:
            return f"t.{version} < x.version"
        return (
            f"exists (select from {self._name(root)} r where r.{quote(root.id)} = t.{quote(table.id)} "
            f"and r.{version} < x.version)"
        )

    def remove(self, table: TargetTable) -> str:
        """Delete rows of lower versions, children first, and leave a fence against older records that come late."""
        gone = f"jsonb_to_recordset(batch->{_literal(table.name + '-')}) x(id text, version bigint)"
        children = "\n".join(
            f"    delete from {self._name(child)} t where t.{quote(child.key[0])} in (select unnest(taken));"
            for child in self._children(table)
        )
        key = quote(table.id)
        raised = _RAISE.format(
            fence=self._own("fence"),
            name=_literal(table.name),
            rows=gone,
            id="id",
            version="version",
        )
        if table.keeps_version:
            older = f"""    {raised};
    select coalesce(array_agg(t.{key}), '{{}}') into taken
      from {self._name(table)} t join {gone} on t.{key} = x.id where t.{quote(table.version)} < x.version;"""
        else:
            older = f"""    with newer as (
      {raised}
      returning f.record_key)
    select coalesce(array_agg(record_key), '{{}}') into taken from newer;"""
        return f"""  if batch ? {_literal(table.name + "-")} then
{older}
{children}
    delete from {self._name(table)} t where t.{key} in (select unnest(taken));
  end if;"""

    def _rows(self, table: TargetTable, columns: tuple[Column, ...]) -> str:
        if self._staged:
            return f"{stage(table)[0]} x"
        typed = ", ".join(f"{quote(column.name)} {column.sql_type}" for column in columns)
        return f"jsonb_to_recordset(batch->{_literal(table.name)}) x({typed})"

    def _children(self, table: TargetTable) -> list[TargetTable]:
        return [each for each in self._tables if each.parent == table.name]

    def _name(self, table: TargetTable) -> str:
        return f"{quote(self._schema)}.{quote(table.name)}"

    def _own(self, name: str) -> str:
        return f"{quote(self._schema)}.tongbu_{name}"


def _names(columns: tuple[Column, ...], prefix: str = "") -> str:
    return ", ".join(prefix + quote(column.name) for column in columns)


def _assign(columns: tuple[Column, ...]) -> str:
    return ", ".join(f"{quote(column.name)} = excluded.{quote(column.name)}" for column in columns)


def quote(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

"""
The expressions of the mapping language: how a field of a canonical record comes from source columns.

A plain string is a column: of the root row (inside `each`: of the part's row), or `alias.column` of a
lookup or a single part. Everything else is a small form with one telling key.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag


class Strict(BaseModel):
    """Unknown keys are refused everywhere; numbers may stand where text is meant, as YAML writes codes."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class Const(Strict):
    """A fixed value."""

    const: str | int | bool | None


class Codes(Strict):
    """Source code -> canonical value. A code that is not listed gives `default`; without one it is an error."""

    codes: dict[str, str]
    of: Expression
    default: str | None = None


class Case(Strict):
    """All conditions of `when` hold: `present` (not null, not ''), `absent`, a literal, or one of a list."""

    when: dict[str, str | int | bool | list[str | int]]
    then: str | int | bool


class Cases(Strict):
    """The first case that holds decides."""

    cases: list[Case]
    default: str | int | bool | None


class Reference(Strict):
    """The canonical id of another entity, made from its natural key; null where a key column is null or ''."""

    reference: str
    to: str | list[str]
    source: str | None = None


class MoneyOf(Strict):
    """An amount with its currency (ISO 4217)."""

    money: Expression
    currency: Expression


class QuantityOf(Strict):
    """A quantity with its unit."""

    quantity: Expression
    unit: Expression


class LocalTimeOf(Strict):
    """A time without zone: one timestamp column, or a date column and a time column, in the source's zone."""

    local_time: str | list[str]


class Count(Strict):
    """How many rows a part has."""

    count: str


class Sum(Strict):
    """The sum of a Money or decimal field over a mapped array: `<array field>.<field>`."""

    sum: str


class Each(Strict):
    """One record per row of a part."""

    each: str
    fields: dict[str, Expression]


#: The telling keys, which pydantic uses as tags, too.
FORMS = (
    "const",
    "codes",
    "cases",
    "reference",
    "money",
    "quantity",
    "local_time",
    "count",
    "sum",
    "each",
)


def _form(value: Any) -> str | None:
    if isinstance(value, str):
        return "column"
    keys = (
        value
        if isinstance(value, dict)
        else type(value).model_fields
        if isinstance(value, Strict)
        else ()
    )
    return next((form for form in FORMS if form in keys), None)


Expression = Annotated[
    Annotated[str, Tag("column")]
    | Annotated[Const, Tag("const")]
    | Annotated[Codes, Tag("codes")]
    | Annotated[Cases, Tag("cases")]
    | Annotated[Reference, Tag("reference")]
    | Annotated[MoneyOf, Tag("money")]
    | Annotated[QuantityOf, Tag("quantity")]
    | Annotated[LocalTimeOf, Tag("local_time")]
    | Annotated[Count, Tag("count")]
    | Annotated[Sum, Tag("sum")]
    | Annotated[Each, Tag("each")],
    Discriminator(
        _form,
        custom_error_type="expression",
        custom_error_message=f"is no expression: write a column name or one of {', '.join(FORMS)}",
    ),
]

for _model in (Codes, Cases, MoneyOf, QuantityOf, Each):
    _model.model_rebuild()


class Part(Strict):
    """Rows of another table that belong to the aggregate, joined to the root's primary key."""

    from_: str = Field(alias="from")
    join: dict[str, str] = Field(min_length=1)
    order_by: str | None = None
    one: bool = False


class Lookup(Strict):
    """A row of another table of this source, found by its primary key, read as of the transaction's end."""

    from_: str = Field(alias="from")
    key: dict[str, str] = Field(min_length=1)

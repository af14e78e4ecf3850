"""Invoices from orders: a pipeline with steps that can be left out, and prices by the kind of customer.

    python invoices.py
    python invoices.py --currency USD --rate 1.1
    python invoices.py --orders my-orders.csv --save invoices.json

What is not needed is not computed: without another `--currency` nothing is converted, and of the price lists only the
customer's own is read.
"""

from __future__ import annotations

import csv
import json
from typing import TypedDict

import cascade as cs

EXAMPLE = """\
customer,kind,item,quantity,price
Ada,retail,lamp,2,40.00
Ada,retail,cable,5,2.50
Grace,partner,lamp,100,40.00
Edsger,school,desk,12,110.00
"""


class Invoice(TypedDict):
    """What a customer is to pay."""

    customer: str
    kind: str
    total: float
    currency: str


@cs.task
def parse(text: str) -> list[Invoice]:
    """An invoice for each customer, before any discount."""
    invoices: dict[str, Invoice] = {}
    for number, row in enumerate(csv.DictReader(text.splitlines()), 2):
        try:
            amount = int(row["quantity"]) * float(row["price"])
            invoice = invoices.setdefault(
                row["customer"],
                {"customer": row["customer"], "kind": row["kind"], "total": 0.0, "currency": "EUR"},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"line {number} of the orders is no order: {error}") from None
        invoice["total"] += amount
    return list(invoices.values())


@cs.task
def reduce(invoice: Invoice, percent: int) -> Invoice:
    return {**invoice, "total": round(invoice["total"] * (100 - percent) / 100, 2)}


@cs.task
def partner_discount(invoice: Invoice) -> int:
    """A service that is asked for partners alone."""
    return 25 if invoice["total"] >= 1000 else 15


@cs.task
def discount(invoice: Invoice) -> cs.LazyResult[Invoice]:
    """Which discount there is depends on the customer; only that one is worked out."""
    percent = cs.Router(kind_of(invoice), {"retail": 0, "school": 10, "partner": partner_discount(invoice)})
    return reduce(invoice, percent)


@cs.task
def kind_of(invoice: Invoice) -> str:
    return invoice["kind"]


@cs.task
def convert(invoices: list[Invoice], currency: str, rate: float) -> list[Invoice]:
    return [{**each, "total": round(each["total"] * rate, 2), "currency": currency} for each in invoices]


@cs.task
def largest_first(invoices: list[Invoice]) -> list[Invoice]:
    return sorted(invoices, key=lambda each: -each["total"])


@cs.task
def show(invoices: list[Invoice]) -> str:
    row = "{customer:<10} {kind:<8} {total:>10,.2f} {currency}"
    return "\n".join(row.format(**invoice) for invoice in invoices)


@cs.task
def differs(one: str, other: str) -> bool:
    return one != other


is_given = cs.task(bool, name="is_given")


def discounted(invoices: cs.LazyResult[list[Invoice]]) -> cs.LazyResult[list[Invoice]]:
    """A step of a pipeline may be any function of a lazy value."""
    return discount.map(invoice=invoices)


def invoices() -> cs.LazyResult[str]:
    """Make invoices from a file of orders."""
    orders = cs.Param("orders", default="", description="a CSV file; without it, a small example")
    currency = cs.Param("currency", default="EUR", description="what the invoices are in")
    rate = cs.Param("rate", default=1.08, description="what one EUR is in that currency")
    save = cs.Param("save", default="", description="a JSON file to write as well")

    text = cs.Router(is_given(orders), {True: cs.read(orders), False: EXAMPLE})
    finished = cs.pipeline(
        parse(text),
        [
            discounted,
            convert.partial(currency=currency, rate=rate).run_if(differs(currency, "EUR")),
            largest_first,
        ],
    )
    table = show(finished)
    saved = cs.write(save, cs.task(json.dumps, name="to_json")(finished))
    return cs.Router(is_given(save), {True: table.after(saved), False: table})


program = cs.cli(invoices)

if __name__ == "__main__":
    program()

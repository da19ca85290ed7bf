"""The month's report has a row per kind of line where more is sold than packages and overage."""

from decimal import Decimal

import polars as pl

from billing.month.business import Business
from billing.reports.month_by_kind import billed_by_kind, sums_by_kind
from billing.reports.month_report import month_report
from billing.reports.month_report_page import report_page


def test_every_kind_has_a_row_and_they_add_up_to_the_net(sold: Business) -> None:
    report = month_report(sold, "2026-02")
    net = sold.register.documents(["2026-02"])["net"].sum()
    assert report.by_kind["amount"].sum() == net
    rows = {what: (documents, f"{amount:.2f}") for what, documents, amount in report.by_kind.iter_rows()}
    assert rows["one-off charges"] == (2, "380.00")
    assert rows["minimum spends"] == (3, "309.30")
    assert rows["seats"] == (2, "72.00")
    assert rows["add-ons"] == (2, "120.00")
    assert Decimal(rows["discounts"][1]) < 0
    assert list(rows) == [
        *("package fees", "changes within the cycle", "seats", "add-ons", "overage"),
        *("one-off charges", "minimum spends", "discounts"),
    ]
    assert "Lines by kind" in report_page(sold.catalogue, report)


def test_a_business_that_sells_packages_only_has_none() -> None:
    kinds = ["package_fee", "overage", "prior_cycle"]
    lines = pl.DataFrame({"kind": kinds}).with_columns(
        subscription_id=pl.lit("a"), billing_date=None, number=pl.lit("n"), amount=pl.lit(Decimal(1))
    )
    assert billed_by_kind(sums_by_kind(lines)).is_empty()

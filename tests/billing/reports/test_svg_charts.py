"""Charts of reports."""

from decimal import Decimal

from billing.reports.svg_charts import bars, columns, flows


def test_charts_escape_what_they_are_given() -> None:
    drawn = [
        bars("<title>", ["<label>"], [Decimal(1)]),
        columns("<title>", ["<1>"], [2], [1], "<late>"),
        flows("<title>", {("<a>", "b"): 1}, ["<a>", "b"]),
    ]
    for svg in drawn:
        assert "<title>" not in svg.replace("<tspan", "")
        assert "&lt;title&gt;" in svg
        assert "<label>" not in svg

"""The same invoice laid out in Python with ReportLab."""

import io
from collections.abc import Mapping
from html import escape
from typing import Any

from reportlab.lib.colors import HexColor, white
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

INK, MUTED, RULE = HexColor("#17233b"), HexColor("#66708a"), HexColor("#dfe4ec")
TEXT = ParagraphStyle("text", fontSize=8.6, leading=10.4, textColor=INK)
RIGHT = ParagraphStyle("right", TEXT, alignment=2)
SMALL = ParagraphStyle("small", TEXT, fontSize=7.6, leading=9.2, textColor=MUTED)
HEAD = ParagraphStyle("head", TEXT, fontSize=10.5, leading=14, spaceBefore=3 * mm)
WHITE = ParagraphStyle("white", TEXT, textColor=white)


def draw_invoice(words: Mapping[str, Any]) -> bytes:
    """One invoice as PDF."""
    out = io.BytesIO()
    page = SimpleDocTemplate(
        out, pagesize=A4, leftMargin=18 * mm, rightMargin=18 * mm, topMargin=10 * mm, bottomMargin=12 * mm, invariant=1
    )
    seller, customer = words["seller"], words["customer"]
    party = "<br/>".join(
        ["<b>" + escape(customer["name"]) + "</b>", *map(escape, customer["address"]), escape(customer["email"])]
    )
    facts = Table(
        [[Paragraph(name, SMALL), Paragraph(value, RIGHT)] for name, value in words["facts"]], [30 * mm, 50 * mm]
    )
    story: list[Any] = [
        Table(
            [
                [
                    Paragraph(f"<b>{escape(seller['name'])}</b><br/>{escape(' · '.join(seller['address']))}", TEXT),
                    Paragraph(f"<font size=23>Invoice</font><br/><br/>{words['number']}", RIGHT),
                ]
            ],
            [114 * mm, 60 * mm],
        ),
        Spacer(1, 3 * mm),
        Table([[Paragraph(party, TEXT), facts]], [94 * mm, 80 * mm]),
        Table(
            [
                [
                    Paragraph(f"<b>Total due</b><br/>Due on issue, for {words['billing_month']}", WHITE),
                    Paragraph(
                        f"<font size=19>{words['total_with_currency']}</font>",
                        ParagraphStyle("sum", WHITE, alignment=2),
                    ),
                ]
            ],
            [94 * mm, 80 * mm],
            style=TableStyle([("BACKGROUND", (0, 0), (-1, -1), HexColor("#12233f"))]),
        ),
    ]
    if words["compared"]:
        it = words["compared"]
        story.append(Paragraph(f"<b>Why it is {it['direction']} than last time</b>", HEAD))
        story.append(
            Paragraph(
                f"This is <b>{it['difference']} {it['direction']}</b> than {it['number']} of {it['date']}: "
                f"{it['previous']} then, {it['current']} now.",
                TEXT,
            )
        )
        moved = [["What moved", "Then", "Now", "Difference"]]
        moved += [[row["label"], row["previous"], row["current"], row["difference"]] for row in it["movements"]]
        story.append(Table(moved, [86 * mm, 26 * mm, 26 * mm, 26 * mm], style=_figures(1)))
    for it in words["changes"]:
        story.append(
            Paragraph(
                f"<b>Package change: {it['origin']} - {it['target']}, from {it['effective_on']}</b><br/>"
                + escape(it["sentence"]),
                TEXT,
            )
        )
    rows: list[list[Any]] = [["Item", "Used", "Allowance", "Over", "Charged", "Unit price", words["currency"]]]
    for line in words["lines"]:
        title = f"{escape(line['title'])}<br/><font size=7.6>{escape(' · '.join(line['details']))}</font>"
        figures = [line[name] for name in ("quantity", "allowance", "excess", "charged", "price", "amount")]
        rows.append([Paragraph(title, TEXT), *figures])
    rows.append(["Net", "", "", "", "", "", words["net"]])
    rows += [
        [f"{tax['name']} {tax['rate']} on {tax['taxable']}", "", "", "", "", "", tax["amount"]]
        for tax in words["taxes"]
    ]
    rows.append(["Total", "", "", "", "", "", words["total_with_currency"]])
    widths = [58 * mm, 21 * mm, 20 * mm, 18 * mm, 19 * mm, 15 * mm, 23 * mm]
    story += [Paragraph("Charges", HEAD), Table(rows, widths, repeatRows=1, style=_figures(1))]
    for cycle in words["usage"]:
        used = [[it["metric"], "", f"{it['quantity']} of {it['allowance']}"] for it in cycle["metrics"]]
        bars = [
            ("BACKGROUND", (1, row), (1, row), HexColor("#3d64b8"))
            for row, it in enumerate(cycle["metrics"])
            if it["bar"]
        ]
        story += [
            Paragraph("Usage against allowance", HEAD),
            Table(used, [40 * mm, 74 * mm, 60 * mm], style=TableStyle(bars)),
        ]
    story.append(
        Paragraph(
            f"<b>Payment</b><br/>Payment is due on issue, in {words['currency']}. Please quote {words['number']}. "
            "Package fees are charged in advance, for the cycle that begins on the billing date. Usage over an "
            "allowance is charged afterwards, at the prices of the package in force when it happened.",
            SMALL,
        )
    )
    page.build(story)
    return out.getvalue()


def _figures(first: int) -> TableStyle:
    return TableStyle(
        [
            ("FONTSIZE", (0, 0), (-1, -1), 8.6),
            ("ALIGN", (first, 0), (-1, -1), "RIGHT"),
            ("LINEBELOW", (0, 0), (-1, -1), 0.5, RULE),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ]
    )

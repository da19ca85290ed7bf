"""Ids under which documents of their own stand within the pipeline are shown to nobody."""

import json
import re
from datetime import date
from pathlib import Path

from billing.month.business import Business
from billing.month.corrections import correction_drafts
from billing.reports.explain import explain_document
from billing.reports.preview import preview_month
from billing.reports.show import read_table
from pipeline.runs import _notes
from tests.by_steps import bill_by_steps
from tests.sold_business import sold_landing

INTERNAL = re.compile(r"[\w/-]+/(?:charges|charge|prepayment|upgrade)\b")
TABLES = ("documents", "lines", "drafts", "draft_lines", "decisions", "allocations", "credits", "packages")


def test_they_are_in_no_document_preview_explanation_table_or_note(tmp_path: Path) -> None:
    landing = sold_landing(tmp_path)
    with (landing.folder / "credit_grants.csv").open("a") as file:
        file.write("bought,own,70.00,USD,2026-01-20,,purchased\n")
    shown = [json.dumps(preview_month(Business.load(tmp_path, date(2026, 1, 31)), "2026-01").as_plain())]
    assert '"what": "document"' in shown[0]
    bill_by_steps(tmp_path, "2026-01", "2026-01-31", issues=False)
    shown += [read_table(Business.load(tmp_path, date(2026, 1, 31)), name="drafts").write_json()]
    business = bill_by_steps(tmp_path, "2026-01", "2026-01-31")
    shown += [read_table(business, name=name).write_json() for name in TABLES]
    own = business.register.documents().filter(
        business.register.documents()["subscription_id"].str.contains(INTERNAL.pattern)
    )
    assert own.height == 4
    shown += [content for _, content in business.register.contents(own["number"].to_list())]
    shown += [json.dumps(explain_document(business, number, everything=True)) for number in own["number"]]
    charges = landing.folder / "one_off_charges.csv"
    charges.write_text(charges.read_text().replace(",80.00,true", ",90.00,true"))
    business = bill_by_steps(tmp_path, "2026-01", "2026-02-05", issues=False)
    notes = correction_drafts(business, "2026-01", "wrong", ["own"])
    drafted = notes.documents.with_columns(number=notes.documents["corrects"])
    told = _notes(drafted, notes.lines, ["account_id", "subscription_id", "billing_date"], business)
    assert [row["account_id"] for row in told] == ["own"]
    shown += [json.dumps(told)]
    assert [INTERNAL.search(text) for text in shown] == [None] * len(shown)

"""A document that cannot be drawn is told of by number and account, and stops nobody."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from billing.rendering import Job, RenderedFile, Undrawn
from tests.pipeline.outside import Landing, bill, blank_files, blank_page, show


def test_a_document_that_cannot_be_drawn_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    landing = Landing(tmp_path / "home")
    for account in ("a", "b", "c"):
        landing.customer(account)
    wrong = {"b"}

    def draw(jobs: Iterable[Job], **_: object) -> Iterator[RenderedFile | Undrawn]:
        for job in jobs:
            if any(f'"account_id":"{account}"' in job.content for account in wrong):
                yield Undrawn(job.path, job.path.stem, "not drawn within 30 seconds of processor time")
            else:
                yield from blank_files([job])

    monkeypatch.setattr("billing.month.render_files", draw)
    monkeypatch.setattr("billing.month_report_page.draw_page", blank_page)
    ended = bill(landing.root, "2026-01", "2026-01-31", paper=True)
    assert ended.status == 1, ended.messages
    assert "warning: INV-2026-000002: the document of account b could not be drawn: not drawn within" in ended.messages
    assert "not done: INV-2026-000002 of account b has no PDF" in ended.messages
    # nobody else notices, in this month and the next
    assert bill(landing.root, "2026-02", "2026-02-28", paper=True).status == 1
    assert len(show(landing.root, "documents")) == 6
    drawn = {path.stem for path in (landing.root / "documents").rglob("*.pdf")}
    assert drawn == {f"INV-2026-00000{number}" for number in (1, 3, 4, 6)}
    # a version that can draws what is missing, as it was issued
    wrong.clear()
    ended = bill(landing.root, "2026-02", "2026-02-28", paper=True)
    assert ended.status == 0, ended.messages
    assert len(list((landing.root / "documents").rglob("*.pdf"))) == 6

"""A document that cannot be drawn is told of by number and account, and stops nobody."""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

import pytest

from billing.register.register import Register
from billing.rendering import Job, RenderedFile, Undrawn
from billing.store.home import Home
from tests.pipeline.outside import Landing, bill, blank_files, blank_page, overage, show
from tests.sizes import LONG


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

    monkeypatch.setattr("billing.month.pdf_files.render_files", draw)
    monkeypatch.setattr("billing.reports.month_report_page.draw_page", blank_page)
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


def test_a_pdf_that_another_library_draws_otherwise_is_recorded_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing = Landing(tmp_path / "home")
    for account in ("a", "b"):
        landing.customer(account)
    library = {"bytes": ""}

    def draw(jobs: Iterable[Job], **_: object) -> Iterator[RenderedFile | Undrawn]:
        yield from blank_files(Job(f"{job.content}{library['bytes']}", job.path, job.sha256) for job in jobs)

    monkeypatch.setattr("billing.month.pdf_files.render_files", draw)
    monkeypatch.setattr("billing.reports.month_report_page.draw_page", blank_page)
    assert bill(landing.root, "2026-01", "2026-01-31", paper=True).status == 0
    lost, kept = sorted((landing.root / "documents").rglob("*.pdf"))
    originals = lost.read_bytes(), kept.read_bytes()
    lost.unlink()
    library["bytes"] = "% drawn by a newer one"
    ended = bill(landing.root, "2026-01", "2026-02-05", paper=True, profiles=True)
    assert (ended.status, kept.read_bytes()) == (0, originals[1])
    assert f"warning: {lost.stem}: drawn again with other bytes than it was issued with" in ended.messages
    register = Register.open(Home(landing.root))
    row = register.redrawn_files().row(0, named=True)
    assert (row["number"], row["redrawn_on"], row["bytes"]) == (lost.stem, date(2026, 2, 5), lost.stat().st_size)
    assert row["sha256"] == hashlib.sha256(originals[0]).hexdigest()
    assert row["redrawn_sha256"] == hashlib.sha256(lost.read_bytes()).hexdigest()
    assert "weasyprint" in row["drawn_with"]
    verified = overage("verify", "--home", landing.root)
    assert verified.status == 0, verified.output
    assert f"the PDF of {lost.stem} was drawn again on 2026-02-05 with other bytes" in verified.messages
    # the original is put back, or drawn by the library that it was issued with
    lost.unlink()
    library["bytes"] = ""
    assert bill(landing.root, "2026-01", "2026-02-06", paper=True, profiles=LONG).status == 0
    assert lost.read_bytes() == originals[0]
    if LONG:
        verified = overage("verify", "--home", landing.root)
        assert (verified.status, "drawn again" in verified.messages) == (0, False)
    assert register.redrawn_files().height == 1
    register.close()
    # anything else is no document that was drawn
    lost.write_bytes(b"something else")
    assert overage("verify", "--home", landing.root).status == 1

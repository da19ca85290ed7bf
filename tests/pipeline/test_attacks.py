"""Input that once broke a run: it is refused in one message, or does no harm."""

from pathlib import Path

import pytest

from billing.profile_pages import page_name
from tests.pipeline.outside import Landing, bill, overage


@pytest.mark.parametrize("day", ["0001-01-01", "1600-01-01", "2262-04-12", "9999-12-31"])
def test_a_day_outside_of_any_calendar_of_billing_is_refused(tmp_path: Path, day: str) -> None:
    home = Landing(tmp_path / "home").root
    for ended in (bill(home, "2026-02", day), overage("show", "profile", "--as-of", day, "--home", str(home))):
        assert ended.status == 2
        assert f"found '{day}', expected a day from 1970-01-01 to 2099-12-31" in ended.messages


def test_an_account_id_of_any_length_has_a_page_that_a_file_system_can_hold(tmp_path: Path) -> None:
    long, longer, wide = "L" * 5000, "L" * 5001, "ü" * 100
    pages = [page_name(account_id) for account_id in (long, longer, wide)]
    for page in pages:
        (tmp_path / f".writing-4194304-{page}").write_text("scratch")
    assert len(set(pages)) == 3
    # no account can be named so that it writes over the page of another one
    assert page_name(pages[0].removesuffix(".html")) not in pages

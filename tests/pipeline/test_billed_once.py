"""What tests do in place of billing again leaves the same: files, messages and exit status."""

from pathlib import Path

from tests.landing import two_customers
from tests.pipeline.outside import Ended, bill, bill_once, content_of


def said(ended: Ended, home: Path) -> tuple[int, str]:
    return ended.status, ended.messages.replace(str(home), "home")


def facts(home: Path) -> dict[str, str]:
    """Every file but those that hold when they were written."""
    own = ("register.db", "lake/ingest_state.json", "drafted.json")
    return {name: found for name, found in content_of(home).items() if not name.endswith(own)}


def test_a_home_that_is_copied_goes_on_as_the_one_that_was_billed(tmp_path: Path) -> None:
    told, made = {}, {}
    for name in ("billed", "copied"):
        home = tmp_path / name
        landing = two_customers(home)
        first = bill_once(home, "2026-01", "2026-01-31")
        again = bill(home, "2026-01", "2026-01-31")
        assert "nothing moved" in again.messages
        landing.use("bolt", "2026-01-26", emails=2_000, delivered="2026-02-03")
        ended = [first, again, bill(home, "2026-02", "2026-02-15")]
        told[name], made[name] = [said(each, home) for each in ended], facts(home)
    assert told["billed"] == told["copied"]
    assert made["billed"] == made["copied"]

"""Pages of profiles."""

from pathlib import Path

from billing.reports.profile_pages import page_name


def test_an_account_id_of_any_length_has_a_page_that_a_file_system_can_hold(tmp_path: Path) -> None:
    long, longer, wide = "L" * 5000, "L" * 5001, "ü" * 100
    pages = [page_name(account_id) for account_id in (long, longer, wide)]
    for page in pages:
        (tmp_path / f".writing-4194304-{page}").write_text("scratch")
    assert len(set(pages)) == 3
    # no account can be named so that it writes over the page of another one
    assert page_name(pages[0].removeprefix("a-").removesuffix(".html")) not in pages

"""`overage link`: where an account's own page is."""

import re
from pathlib import Path

import pytest

from tests.pipeline.outside import Landing, bill, overage


@pytest.mark.usefixtures("profiles_once")
def test_the_link_to_an_accounts_page_is_told_stays_and_can_be_renewed(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.customer("acme")
    assert overage("link", "acme", "--home", tmp_path).status == 2
    assert bill(tmp_path, "2026-01", "2026-01-20").status == 0
    first = overage("link", "acme", "--home", tmp_path)
    assert first.status == 0
    assert re.fullmatch("profiles/[0-9a-f]{32}/index.html", first.output.strip())
    page = tmp_path / first.output.strip()
    said = page.read_text()
    assert "Acme Inc." in said and "INV-2026-000001" in said

    assert bill(tmp_path, "2026-01", "2026-01-21").status == 0
    assert overage("link", "acme", "--home", tmp_path).output == first.output
    assert "January" in page.read_text() != said
    renewed = overage("link", "acme", "--renew", "--home", tmp_path)
    assert renewed.status == 0 and renewed.output != first.output
    assert not page.parent.exists() and (tmp_path / renewed.output.strip()).is_file()

    catalogue = landing.folder / "catalogue.yaml"
    catalogue.write_text(
        catalogue.read_text().replace("# profile_url:", "profile_url:").replace('accounts"      #', 'accounts" #')
    )
    token = Path(renewed.output.strip()).parent.name
    told = overage("link", "acme", "--home", tmp_path)
    assert told.output.strip() == f"https://billing.example.com/accounts/{token}/"
    assert overage("link", "nobody", "--home", tmp_path).status == 2

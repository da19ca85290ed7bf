"""The months that are run, and the business that they are chosen from."""

from datetime import date
from pathlib import Path

from pipeline.months_to_run import loaded, months_to_run
from tests.landing import Landing
from tests.postgresql import Server


def test_a_business_that_a_sensor_looks_at_leaves_no_connections(
    tmp_path: Path, postgresql: Server, url_on_server: str
) -> None:
    Landing(tmp_path).customer("acme")
    with loaded(tmp_path, date(2026, 2, 1)) as business:
        assert business is not None
        assert months_to_run(business, "2026-02") == ["2026-01", "2026-02"]
        assert postgresql.comes_to(1, url_on_server)
    assert postgresql.comes_to(0, url_on_server)


def test_a_home_whose_inputs_are_refused_has_no_business_to_look_at(tmp_path: Path) -> None:
    Landing(tmp_path, "packages: 7").customer("acme")
    with loaded(tmp_path, date(2026, 2, 1)) as business:
        assert business is None
        assert months_to_run(business, "2026-02") == ["2026-01", "2026-02"]

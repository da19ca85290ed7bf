"""A business that sells everything, billed once for the tests that only read."""

import pytest

from billing.month.business import Business
from tests.by_steps import bill_by_steps
from tests.sold_business import DAYS, sold_landing


@pytest.fixture(scope="session")
def sold(tmp_path_factory: pytest.TempPathFactory) -> Business:
    landing = sold_landing(tmp_path_factory.mktemp("sold"))
    for month, day in DAYS:
        business = bill_by_steps(landing.root, month, day)
    return business

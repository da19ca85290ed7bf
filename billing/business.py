"""A business as of a day: its home, what was given, and the register. Every computation starts from one."""

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

import polars as pl

from billing.calendar import first_day, month_of, months_after
from billing.catalogue import Catalogue, load_catalogue
from billing.errors import RefusedError
from billing.home import Home
from billing.inputs import Inputs, read_inputs
from billing.rating import TermsFrames, terms_frames
from billing.register import Register
from billing.subscriptions import Lives, read_lives


@dataclass(frozen=True)
class Business:
    """Everything a run reads, as of the end of a local day.

    Attributes
    ----------
    as_of
        The movable clock: deliveries, requests and payments after this day do not exist yet.
    issues
        Whether the run may issue; a draft run computes only.
    """

    home: Home
    catalogue: Catalogue
    inputs: Inputs
    register: Register
    as_of: date
    issues: bool = True

    @classmethod
    def load(cls, root: Path, as_of: date, register_url: str | None = None, issues: bool = True) -> "Business":
        """Read and validate everything, before anything is computed or written (rule 28).

        Raises
        ------
        RefusedError
            Naming what is missing or wrong, and where.
        """
        home = Home(root)
        if not home.landing.is_dir():
            raise RefusedError(
                f"{root}: this is no billing home: expected a folder `landing` in it (`overage init` makes one)"
            )
        catalogue = load_catalogue(home.landing / "catalogue.yaml")
        inputs = read_inputs(home, catalogue)
        return cls(home, catalogue, inputs, Register.open(home, register_url), as_of, issues)

    @cached_property
    def terms(self) -> TermsFrames:
        """The catalogue's terms as frames."""
        return terms_frames(self.catalogue)

    @cached_property
    def requests(self) -> pl.DataFrame:
        """The requests made up to the as-of day."""
        return self.inputs.requests.filter(pl.col("on") <= self.as_of)

    @cached_property
    def payments(self) -> pl.DataFrame:
        """The payments made up to the as-of day."""
        return self.inputs.payments.filter(pl.col("on") <= self.as_of)

    @cached_property
    def lives(self) -> Lives:
        """The subscriptions that the requests made, without those of parked accounts (rule 28)."""
        lives = read_lives(self.requests, self.catalogue, self.terms)
        parked = lives.parked["account_id"].implode()
        return Lives(lives.subscriptions.filter(~pl.col("account_id").is_in(parked)), lives.answers, lives.parked)

    @cached_property
    def suspensions(self) -> pl.DataFrame:
        """account_id, suspended_from, suspended_until: when access was suspended by a failed payment (rule 16)."""
        instant = pl.Datetime("ns", "UTC")
        return pl.DataFrame(schema={"account_id": pl.String, "suspended_from": instant, "suspended_until": instant})

    @cached_property
    def first_month(self) -> str | None:
        """The month of the first billing date there is; None when nobody has subscribed."""
        first = self.lives.subscriptions.select(month_of(pl.col("started_on").min())).item()
        return None if first is None else str(first)

    def closes_through(self, month: str) -> date:
        """The day up to which billing dates of the month may be issued: `issue_after_days` before the as-of day."""
        last_day = first_day(months_after(month, 1)).toordinal() - 1
        return date.fromordinal(min(last_day, self.as_of.toordinal() - self.catalogue.policy.issue_after_days))

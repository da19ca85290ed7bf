"""Command that bills past months under candidate catalogues, in a scratch copy."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from billing.model.errors import RefusedError
from pipeline.exit_status import exit_status
from pipeline.options import Day, as_of_option, format_option, home_option
from pipeline.output import print_rows, say, tell

if TYPE_CHECKING:
    from billing.reports.what_if import Comparison, Grid

_SHOWN = 10


class Percent(click.ParamType[Decimal]):
    """A number of percent, with or without the sign: 20 or 20%."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Read the number."""
        if isinstance(value, Decimal):
            return value
        text = str(value).removesuffix("%").strip()
        if not text.replace(".", "", 1).isdecimal():
            self.fail(f"found {value!r}, expected a number of percent such as 20%", param, ctx)
        return Decimal(text)


class Number(click.ParamType[Decimal]):
    """A plain decimal number, perhaps negative."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Read the number."""
        if isinstance(value, Decimal):
            return value
        if not str(value).removeprefix("-").replace(".", "", 1).isdecimal():
            self.fail(f"found {value!r}, expected a plain number such as -0.5", param, ctx)
        return Decimal(value)


@click.command("what-if")
@click.argument("catalogues", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CATALOGUE...")
@click.option("--from", "since", required=True, metavar="MONTH", help="The first month.")
@click.option("--through", required=True, metavar="MONTH", help="The last month.")
@click.option("--account", "accounts", multiple=True, metavar="ACCOUNT", help="Only this account; repeatable.")
@click.option("--only", multiple=True, metavar="PACKAGE", help="Only accounts that begin in this package; repeatable.")
@click.option(
    "--seed-choices",
    "choices",
    type=click.Choice(["stay", "cheapest"]),
    default="stay",
    show_default=True,
    help="stay: packages change as they would have; cheapest: all in the cheapest that fits, changed at each close.",
)
@click.option("--flag-above", type=Percent(), metavar="PERCENT", help="Name accounts whose bill changes by more.")
@click.option("--grandfather-before", type=Day(), help="What it costs to leave accounts from before on old versions.")
@click.option("--vary", multiple=True, metavar="PATH=FROM..TO/STEP", help="Along one or two numbers of the catalogue.")
@click.option(
    "--elasticity",
    type=Number(),
    default=Decimal(0),
    show_default=True,
    help="Of demand, along --vary: an assumption.",
)
@click.option("--name", help="Name of the answer; default: that of the first file.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder; default: what-if/NAME here.")
@as_of_option
@format_option
@home_option
@exit_status
def what_if(
    catalogues: tuple[Path, ...],
    since: str,
    through: str,
    accounts: tuple[str, ...],
    only: tuple[str, ...],
    choices: str,
    flag_above: Decimal | None,
    grandfather_before: date | None,
    vary: tuple[str, ...],
    elasticity: Decimal,
    name: str | None,
    out: Path | None,
    as_of: date | None,
    style: str,
    home: Path,
) -> None:
    """Bill past months under another catalogue and show who would have paid what. The home is not touched.

    Tables, a page and a PDF are written to the folder --out.
    """
    from assets.clock import today
    from assets.progress import report
    from billing.inputs.catalogue_file import load_catalogue
    from billing.inputs.catalogue_variation import Variation
    from billing.reports.what_if import (
        Question,
        compare_along,
        compare_catalogues,
        refuse_folder,
        refuse_name,
        write_what_if,
    )
    from pipeline.progress import progress_display
    from pipeline.run_state import load

    if vary and len(catalogues) > 1:
        raise RefusedError("--vary: found several catalogues, expected one")
    if elasticity and not vary:
        raise RefusedError("--elasticity: expected --vary beside it: it is demand along a price")
    names = _names(catalogues, name)
    if name is not None:
        refuse_name(name)
    out = out or Path("what-if") / (name or names[0])
    refuse_folder(out, names, home)
    variations = [Variation.of(text) for text in vary]
    candidates = [(own, load_catalogue(path)) for own, path in zip(names, catalogues, strict=True)]
    question = Question(since, through, accounts, only, choices, flag_above, grandfather_before)  # type: ignore[arg-type]
    business = load(home, as_of or today(home), issues=False)
    grid = None
    with progress_display(), business.alone() if business.home.lake.exists() else nullcontext():
        if variations:
            [path] = catalogues
            found, grid = compare_along(business, path, variations, question, elasticity, report, is_locked=True)
        else:
            found = compare_catalogues(business, candidates, question, report, is_locked=True)
    page = write_what_if(business.catalogue, found, grid, out)
    _print(found, grid, style)
    say(f"{page}: a page, a PDF and tables beside it; nothing was issued, the home is as it was")


def _names(catalogues: Sequence[Path], name: str | None) -> list[str]:
    if len(catalogues) == 1 and name:
        return [name]
    names = [path.stem for path in catalogues]
    if len(set(names)) < len(names):
        raise RefusedError(f"candidates: found {', '.join(names)}, expected files with different names")
    return names


def _print(found: "Sequence[Comparison]", grid: "Grid | None", style: str) -> None:
    if style == "json":
        from billing.model.plain_rows import without_controls

        plain: Any = [each.as_plain() for each in found]
        if grid is not None:
            plain = grid.as_plain()
        elif len(plain) == 1:
            plain = plain[0]
        click.echo(without_controls(json.dumps(plain, ensure_ascii=False, indent=1)))
        return
    if grid is not None:
        rows = grid.rows()
        print_rows(rows, [name for name in rows[0] if any(row[name] is not None for row in rows)], style)
        paths = [f"value_{place}: {path}" for place, path in enumerate(grid.paths, 1)]
        say(f"{', '.join(paths)}, amounts in {grid.currency}")
        say(f"assumption: {grid.assumption}")
        return
    columns = ["currency", "account_id", "before", "after", "difference", "why"]
    if style == "csv":
        several = [{"name": each.name, **row} for each in found for row in _accounts(each)]
        print_rows(several, ["name", *columns], style)
        return
    for each in found:
        _print_table(each)


def _accounts(found: "Comparison") -> list[dict[str, Any]]:
    return [{"currency": code, **row} for code in found.currencies for row in found.rows("accounts", code)]


def _print_table(found: "Comparison") -> None:
    from billing.reports.what_if import notes_of

    for code in found.currencies:
        totals = found.rows("totals", code)
        if not totals:
            tell(f"{found.name}: nothing is due from {found.since} through {found.through}")
            continue
        row = totals[0]
        tell(
            f"{found.name}: {code} {row['after']} instead of {row['before']} ({row['difference']}) "
            f"from {found.since} through {found.through}"
        )
        for name in ("months", "lines"):
            rows = found.rows(name, code)
            print_rows(rows, list(rows[0]), "table")
        changed = [each for each in found.rows("accounts", code) if each["before"] != each["after"]]
        tell(f"accounts that change: {len(changed)} of {found.of('accounts', code).height}")
        changed.sort(key=lambda each: (-abs(Decimal(each["difference"])), each["account_id"]))
        if changed:
            print_rows(changed[:_SHOWN], ["account_id", "before", "after", "difference", "why"], "table")
        for note in notes_of(found, code):
            tell(note)

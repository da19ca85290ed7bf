"""Command for a home's own template of documents."""

from pathlib import Path

import click

from billing.model.errors import RefusedError
from pipeline.exit_status import DONE, PARTLY, exit_status
from pipeline.options import home_option
from pipeline.output import say, tell


@click.command("preview-template")
@click.option("--language", metavar="CODE", help="Language of the sample (de, pt-BR); default: the seller's, else en.")
@click.option("--kind", type=click.Choice(["invoice", "credit_note", "debit_note"]), default="invoice")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default="preview.pdf",
    show_default=True,
    help="File to write: .pdf or .html.",
)
@home_option
@exit_status
def preview_template(language: str | None, kind: str, out: Path, home: Path) -> int:
    """Draw a made-up document of this seller with the template in landing/templates/; change nothing."""
    from billing.rendering.errors import ContentError, RenderingError
    from billing.rendering.own_templates import TemplateError
    from billing.reports.template_preview import home_preview
    from billing.store.home import Home

    if out.suffix not in (".pdf", ".html"):
        raise RefusedError(f"{out}: found a file of type {out.suffix or 'none'}, expected .pdf or .html")
    landing = home / "landing"
    try:
        drawn = home_preview(Home(home), language=language, kind=kind, as_html=out.suffix == ".html")
    except TemplateError as error:
        raise RefusedError(str(error)) from error
    except ContentError as error:
        raise RefusedError(f"{landing}: {error}") from error
    except RenderingError as error:
        raise RefusedError(f"{landing / 'templates'}: {error.cause}") from error
    out.write_bytes(drawn.content)
    for warning in drawn.warnings:
        tell(warning)
    own = "its own template" if (landing / "templates").is_dir() else "the template of this release"
    say(f"{out}: a sample {kind.replace('_', ' ')} in {drawn.language}, drawn with {own}")
    return PARTLY if drawn.warnings else DONE

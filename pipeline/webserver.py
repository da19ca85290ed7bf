"""Guarded web server for Dagster's UI and the home's pages: `python -m pipeline.webserver`.

OVERAGE_UI_USERS
    User names and password hashes (`pipeline.web_users`).
OVERAGE_UI_URL
    Public address, when it differs from the one it listens on, such as a proxy's.
OVERAGE_UI_HOSTS
    Further allowed host names, separated by commas.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

from assets.environment import home_folder, variables
from assets.homes import check_out
from assets.links import FILES
from billing.model.errors import RefusedError
from billing.store.home import Home
from billing.store.working_copy import working_copy
from billing.store.working_files import Needs
from pipeline.private_files import umask_of
from pipeline.web_guard import SameOriginMiddleware
from pipeline.web_users import Login, ask_to_log_in, read_users

MODULE: Final = "pipeline.definitions"
PROGRAM = Path(__file__).parents[1]
"""Root folder of the program: Dagster imports from it, whatever is in the current folder."""
FIRST_PAGE: Final = f"/locations/{MODULE}/jobs/billing_month?expanded=global@global:documents"
"""Lineage of a month with its documents open, and the button that bills it."""

_LOCAL: Final = ("localhost", "127.0.0.1", "[::1]", "::1")
_ANY: Final = ("0.0.0.0", "::", "")  # noqa: S104  # Compared with, not listened on.


def guarded(app: ASGIApp, home: Home, host: str, environment: Mapping[str, str]) -> Starlette:
    """The app and the files of a home, behind host check, origin check and login.

    Raises
    ------
    RefusedError
        When OVERAGE_UI_USERS is invalid.
    """
    users = read_users(environment.get("OVERAGE_UI_USERS", ""))
    address = environment.get("OVERAGE_UI_URL", "")
    given = [name.strip() for name in environment.get("OVERAGE_UI_HOSTS", "").split(",")]
    hosts = {*_LOCAL, host, urlsplit(address).hostname or "", *given} - set(_ANY)
    return Starlette(
        routes=[
            *(
                Mount(f"{FILES}/{folder.name}", HomeFiles(home, folder))
                for folder in (home.reports, home.documents, home.profiles)
            ),
            Route("/", _first_page),
            Mount("/", app),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=sorted(hosts), www_redirect=False),
            Middleware(SameOriginMiddleware, address=address),
            *([Middleware(AuthenticationMiddleware, backend=Login(users), on_error=ask_to_log_in)] if users else []),
        ],
        lifespan=_until_stopped,
    )


async def _first_page(_: Request) -> Response:
    return RedirectResponse(FIRST_PAGE)


class HomeFiles(StaticFiles):
    """Files of a folder of the home; their pages may load nothing else."""

    def __init__(self, home: Home, folder: Path) -> None:
        if working_copy(home.root) is not None:
            # Its pages are checked out when they are asked for.
            folder.mkdir(exist_ok=True)
        super().__init__(directory=folder, check_dir=False, html=True)
        self._home = home
        self._folder = folder

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, never cached by proxies; scratch files are not found."""
        if any(part.startswith(".") and part != "." for part in Path(path).parts):
            return Response("Not Found", 404)
        if working_copy(self._home.root) is not None:
            await run_in_threadpool(self._bring, path)
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "private, no-cache"
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'"
        )
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    def _bring(self, path: str) -> None:
        """Bring the pages of a home in a store up to date, and the bytes of a document."""
        copy = working_copy(self._home.root)
        if copy is not None:
            check_out(self._home.root, Needs((f"{self._folder.name}/**",)), landing=False)
            copy.fetch_documents([f"{self._folder.name}/{path}"])


@asynccontextmanager
async def _until_stopped(_: Starlette) -> AsyncIterator[None]:
    with suppress(asyncio.exceptions.CancelledError):
        yield


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, default=3000, show_default=True)
@click.option("--read-only", is_flag=True, help="Disable all actions in the UI.")
@click.option("--workspace", help="A workspace.yaml of Dagster that names a code server; without it one is started.")
def main(host: str, port: int, *, read_only: bool, workspace: str | None) -> None:
    """Serve the UI of $OVERAGE_HOME, with the runs of $DAGSTER_HOME."""
    import uvicorn
    from dagster import DagsterInstance
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import ModuleTarget, WorkspaceFileTarget
    from dagster._utils.interrupts import setup_interrupt_handlers
    from dagster_webserver.app import create_app_from_workspace_process_context
    from dagster_webserver.version import __version__

    home = Home(home_folder().resolve())
    # Fail early: check the users before starting anything.
    try:
        read_users(variables().get("OVERAGE_UI_USERS", ""))
    except RefusedError as error:
        raise click.ClickException(str(error)) from error
    os.umask(umask_of(variables()))
    setup_interrupt_handlers()
    target = (
        WorkspaceFileTarget([workspace])
        if workspace
        else ModuleTarget(module_name=MODULE, attribute=None, working_directory=str(PROGRAM), location_name=None)
    )
    with DagsterInstance.get() as instance:
        # As Dagster's own command: statement timeout, connection lifetime and pool size.
        instance.optimize_for_webserver(15_000, 3_600, 20)
        with WorkspaceProcessContext(
            instance, workspace_load_target=target, version=__version__, read_only=read_only
        ) as context:
            app = create_app_from_workspace_process_context(context, live_data_poll_rate=2_000)
            uvicorn.run(guarded(app, home, host, variables()), host=host, port=port, log_level="warning")


if __name__ == "__main__":
    main()

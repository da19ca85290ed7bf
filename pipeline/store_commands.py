"""Commands for homes in an object store: try a store, and move a home into one and back."""

import secrets
from pathlib import Path

import click

from assets.environment import register_url
from billing.model.errors import RefusedError
from billing.model.text import counted
from pipeline.exit_status import DONE, REFUSED, exit_status
from pipeline.output import say, tell


@click.command("check-store")
@click.argument("url", metavar="URL")
@exit_status
def check_store(url: str) -> int:
    """Try a store: are its conditional puts, reads and listings such that a home can be kept there?

    Writes a few objects below URL/check-store/ and deletes them.
    """
    from billing.store.guarantees import tried_guarantees
    from billing.store.object_store import ObjectStore, StoreError

    store = ObjectStore(url)
    try:
        tried = tried_guarantees(store, f"check-store/{secrets.token_hex(8)}")
    except StoreError as error:
        raise RefusedError(str(error)) from error
    for guarantee in tried:
        tell(f"{'holds' if guarantee.holds else 'FAILS'}: {guarantee.name}")
        if guarantee.found:
            tell(f"       {guarantee.found}")
    broken = [guarantee for guarantee in tried if not guarantee.holds]
    if broken:
        say(f"{store.url}: a home cannot be kept here: {counted(len(broken), 'guarantee')} of {len(tried)} fail")
        return REFUSED
    say(f"{store.url}: a home can be kept here: all {len(tried)} guarantees hold")
    return DONE


@click.command("move-home")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@exit_status
def move_home(source: str, target: str) -> None:
    """Move a home from a folder into a store (s3://bucket/prefix), or from a store into a folder.

    Every file is read back and compared. A move that was interrupted goes on when the command is run again. The home at
    FROM cannot be billed afterwards. Its register.db is copied to the database of OVERAGE_REGISTER_URL.
    """
    from billing.reports.move_home import move_into_folder, move_into_store
    from billing.store.object_store import StoreError, is_url

    if is_url(source) == is_url(target):
        raise RefusedError(f"found {source} and {target}, expected a folder and a store such as s3://bucket/prefix")
    register = register_url()
    try:
        if is_url(target):
            moved = move_into_store(Path(source), target, register, say)
        else:
            moved = move_into_folder(source, Path(target), register, say)
    except StoreError as error:
        raise RefusedError(str(error)) from error
    say(
        f"{counted(f'{moved.inputs:,}', 'input')}, {counted(f'{moved.documents:,}', 'document')} and "
        f"{counted(f'{moved.tables:,}', 'file')} of tables and pages, {moved.bytes:,} bytes: moved and compared"
    )
    if moved.register is not None:
        documents = counted(f"{moved.register:,}", "document")
        say(f"the register, {documents}: copied to OVERAGE_REGISTER_URL, row by row, and compared")
    else:
        say("the register stays where OVERAGE_REGISTER_URL has it: keep that variable set")
    say(f"{source}: cannot be billed any more; go on with --home {target}")

"""Progress bar on a terminal; nothing when standard error is not one."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from assets.progress import listening


@contextmanager
def progress_display() -> Iterator[None]:
    """Draw progress on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def draw(doing: str, done: int, total: int) -> None:
            if doing not in tasks:
                for task in tasks.values():
                    bars.update(task, visible=False)
                tasks[doing] = bars.add_task(doing, total=total)
            bars.update(tasks[doing], completed=done, total=total, visible=done < total)

        with listening(draw):
            yield

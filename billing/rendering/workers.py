"""Worker process pool that draws many documents.

Workers are fresh interpreters, not forks: a process that has used Polars or Pango runs threads, and its fork can
deadlock on a lock that one of them held.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, islice
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from billing.rendering.drawing import number_of, render_pdf, seconds_allowed
from billing.rendering.errors import MachineError, RenderingError, WorkerDiedError
from billing.rendering.files import Job, RenderedFile, Undrawn, read_content, render_file
from billing.rendering.fonts import TEMPLATES
from billing.rendering.simplified_content import plainer
from billing.store.files import scratch_path
from billing.store.temporary_folder import temporary_folder

SECONDS_TO_START = 120.0
BYTES_PER_WORKER = 3 * 1024**3
DOCUMENTS_PER_WORKER = 2_000  # Starting a worker costs as much as a dozen documents.
DOCUMENTS_WITHOUT_WORKERS = 16
# A document may be drawn twice (simplified), each within its limit; beyond both the kernel kills the worker.
LIMITS_PER_DOCUMENT = 4
# Elapsed time limit, as a multiple of the CPU time limit: catches blocked workers, never a busy machine.
BUSY_MACHINE = 20

START_WORKER = (
    "import sys; sys.path.insert(0, sys.argv[1]); import billing.rendering.workers as it; it.serve(int(sys.argv[2]))"
)


def render_files(
    jobs: Iterable[Job], workers: int = 2, documents_per_worker: int = DOCUMENTS_PER_WORKER
) -> Iterator[RenderedFile | Undrawn]:
    """Draw documents into files, each written atomically.

    Lazy: takes a bounded number of jobs ahead of the results, so `jobs` may be of any length. Draws a few documents in
    this process, which is cheaper than starting workers, and more in fresh interpreters. A document that exceeds its
    CPU time limit is drawn simplified: long words broken, texts truncated.

    Parameters
    ----------
    jobs
        Stored content as JSON text, the path of the PDF, and its recorded hash, if any.
    workers
        Number of processes.
    documents_per_worker
        Replace a worker after so many documents: WeasyPrint does not free all memory.

    Yields
    ------
    RenderedFile or Undrawn
        In the order of the jobs. A document that cannot be drawn, not even simplified, does not stop the others.

    Raises
    ------
    MachineError
        When this machine cannot draw any document. Earlier results have been yielded.
    OSError
        When a file cannot be written, with its path.
    ValueError
        When `workers` or `documents_per_worker` is below 1.
    """
    if workers < 1 or documents_per_worker < 1:
        raise ValueError(f"found {workers} workers and {documents_per_worker} documents each, expected at least 1")
    remaining = iter(jobs)
    first = list(islice(remaining, DOCUMENTS_WITHOUT_WORKERS + 1))
    if len(first) <= DOCUMENTS_WITHOUT_WORKERS and threading.current_thread() is threading.main_thread():
        for job in first:
            try:
                yield render_file(job)
            except MachineError:
                raise
            except RenderingError as error:
                yield Undrawn(job.path, error.number, error.cause)
    elif first:
        yield from _render_with_workers(chain(first, remaining), workers, documents_per_worker)


def _render_with_workers(
    jobs: Iterable[Job], workers: int, documents_per_worker: int
) -> Iterator[RenderedFile | Undrawn]:
    pool = Pool(documents_per_worker)
    threads = ThreadPoolExecutor(workers, thread_name_prefix="rendering")
    waiting: deque[Future[RenderedFile | Undrawn]] = deque()
    try:
        for job in jobs:
            waiting.append(threads.submit(_render_with, pool, job))
            if len(waiting) >= 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Also when the caller stops iterating or a document fails: leave no process and no scratch file behind.
        for future in waiting:
            future.cancel()
        pool.stop()
        threads.shutdown()
        pool.remove_scratch()


def _render_with(pool: "Pool", job: Job) -> RenderedFile | Undrawn:
    try:
        try:
            return pool.render(job)
        except WorkerDiedError as error:
            # Killed by the machine or by this document: retry once, simplified.
            content = read_content(job.content, job.path)
            plain = plainer(content)
            rendered = pool.render(job._replace(content=json.dumps(plain, ensure_ascii=False)))
            return rendered if plain == content else replace(rendered, shortened=error.cause)
    except MachineError:
        raise
    except RenderingError as error:
        return Undrawn(job.path, error.number, error.cause)


class Pool:
    """Pool of workers, each used by one caller thread at a time."""

    def __init__(self, documents_per_worker: int) -> None:
        self._documents_per_worker = documents_per_worker
        self._folder = temporary_folder("overage-rendering-")
        self._scratch = str(self._folder.__enter__())
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._all: set[Worker] = set()
        self._stopped = False

    def render(self, job: Job) -> RenderedFile:
        worker = self._take(job.path)
        try:
            return worker.render(job)
        finally:
            self._give_back(worker)

    def _take(self, path: Path) -> "Worker":
        with self._lock:
            if self._stopped:
                raise MachineError(path.stem, "rendering was stopped")
            if self._idle:
                return self._idle.pop()
            worker = Worker(self._scratch)
            self._all.add(worker)
            return worker

    def _give_back(self, worker: "Worker") -> None:
        with self._lock:
            if not self._stopped and worker.alive and worker.rendered < self._documents_per_worker:
                self._idle.append(worker)
                return
            self._all.discard(worker)
        worker.close()

    def stop(self) -> None:
        """Stop all workers: idle ones here, busy ones through the thread that uses them, which sees them die.

        Never close a connection from two threads: its file descriptor may be reused by another file in between.
        """
        with self._lock:
            self._stopped = True
            idle, self._idle = self._idle, []
            busy = self._all.difference(idle)
            for worker in busy:
                worker.kill()
            self._all.clear()
        for worker in idle:
            worker.close()

    def remove_scratch(self) -> None:
        self._folder.__exit__(None, None, None)


class Worker:
    """A fresh interpreter that draws documents until it is closed."""

    def __init__(self, scratch: str) -> None:
        self.rendered = 0
        self.alive = True
        self._started = False
        self._connection, theirs = Pipe()
        root = str(Path(__file__).resolve().parents[2])
        with theirs:
            self._messages = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115  Closed with the worker.
            # Run our own interpreter with fixed arguments: they contain no text of a document.
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-c", START_WORKER, root, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._messages,
                stderr=self._messages,
                # Redirect TMPDIR: WeasyPrint copies fonts there, and a killed worker leaves them.
                # Restrict PATH: looking up libraries would run a compiler if there is one.
                env={**os.environ, "TMPDIR": scratch, "PATH": scratch},
            )

    def render(self, job: Job) -> RenderedFile:
        number = job.path.stem
        try:
            if not self._started:
                self._start(number)
            content = read_content(job.content, job.path)
            number = number_of(content)
            self._connection.send(job)
            # The worker enforces its CPU time limit itself; this timeout catches a blocked worker.
            answer = self._receive(number, BUSY_MACHINE * seconds_allowed(content))
        except (EOFError, ConnectionError) as error:
            self.alive = False
            kind = WorkerDiedError if self._started else MachineError
            raise kind(number, self._exit_reason()) from error
        finally:
            if not self.alive:
                scratch_path(job.path, self._process.pid).unlink(missing_ok=True)
        self.rendered += 1
        if not isinstance(answer, RenderedFile):
            raise RenderingError(number, f"found {answer!r} from a worker, expected a file")
        return answer

    def _start(self, number: str) -> None:
        try:
            self._receive(number, SECONDS_TO_START)
        except RenderingError as error:  # It names the sample, which the caller does not know.
            self.alive = False
            raise MachineError(number, error.cause) from error
        self._started = True

    def _receive(self, number: str, seconds: float) -> object:
        if not self._connection.poll(seconds):
            self.close()
            raise WorkerDiedError(number, f"the worker gave no answer within {seconds:.0f} seconds and was stopped")
        answer = self._connection.recv()
        if isinstance(answer, RenderingError | OSError):
            raise answer
        return answer

    def _exit_reason(self) -> str:
        try:
            status = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "the worker closed its connection"
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        said = ""
        if not self._messages.closed:
            self._messages.seek(0)
            said = self._messages.read()[-2000:].decode(errors="replace").strip()
        return f"its worker {how}" + (f": {said}" if said else "")

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()

    def close(self) -> None:
        self.alive = False
        self.kill()
        self._process.wait()
        self._connection.close()
        self._messages.close()


def serve(handle: int) -> None:
    """Main loop of a worker: load the engine once, then draw jobs until the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the caller closes its workers.
    with Connection(handle) as connection:
        try:
            _limit_memory()
            sample = json.loads((TEMPLATES / "sample_v2.json").read_text("utf-8"))
            render_pdf(sample)  # The first page loads what all others share.
        except (RenderingError, OSError) as error:
            connection.send(error)
            return
        # Exclude the loaded objects from later collections, which run after every document.
        gc.collect()
        gc.freeze()
        gc.disable()
        connection.send("ready")
        while True:
            try:
                job: Job = connection.recv()
            except (EOFError, ConnectionError):
                return
            answer: RenderedFile | RenderingError | OSError
            try:
                _limit_processor_time(LIMITS_PER_DOCUMENT * seconds_allowed(read_content(job.content, job.path)))
                answer = render_file(job)
            except (RenderingError, OSError) as error:
                answer = error
            connection.send(answer)
            gc.collect()


def _limit_processor_time(seconds: float) -> None:
    """Let the kernel kill this process if it exceeds the CPU time limit within one native call."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    limit = int(used.ru_utime + used.ru_stime + seconds) + 1
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def _limit_memory() -> None:
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_AS, (BYTES_PER_WORKER, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (OSError, ValueError):
        return  # macOS has no such limit; keep a lower limit set from outside.

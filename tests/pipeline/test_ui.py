"""`overage ui` keeps a webserver, a daemon and the code server of both, and ends with them."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from dagster._grpc.client import DagsterGrpcClient

from billing.model.errors import RefusedError
from billing.store.home import Home
from pipeline import code_server, ui
from pipeline.code_server import CodeServer
from tests.pipeline.outside import Landing

Started = list[subprocess.Popen[bytes]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str, str], Started]]:
    """Let pieces of Python stand in for webserver and daemon, and for a code server that answers at once."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    real = subprocess.Popen
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    # tests may run under nohup, which ignores it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    processes: Started = []

    def standing_in(webserver: str, daemon: str) -> Started:
        def start(command: list[str], env: dict[str, str], process_group: int) -> subprocess.Popen[bytes]:
            code = STAYS if "code-server" in command else daemon if "dagster._daemon" in command else webserver
            processes.append(real([sys.executable, "-c", code], env=env, process_group=process_group))
            return processes[-1]

        monkeypatch.setattr(subprocess, "Popen", start)
        monkeypatch.setattr(CodeServer, "wait", lambda *_: True)
        return processes

    yield standing_in
    for each, handler in before.items():
        signal.signal(each, handler)
    # Close them here: a warning of the garbage collector would fail another test.
    for process in processes:
        process.kill()
        process.wait()


STAYS = "import time; time.sleep(600)"
ENDS = "pass"
STOPS_US = "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(600)"
HANGS_UP = STOPS_US.replace("SIGTERM", "SIGHUP")
SERVES = """
import signal, sys
from pathlib import Path
from pipeline import ui

# a test in the background of a shell is given none
signal.signal(signal.SIGINT, signal.default_int_handler)
ui._refuse_busy_port = lambda *_: None
real = ui.subprocess.Popen
ui.CodeServer.wait = lambda *_: True
waits = "import time\\ntime.sleep(600)"
ui.subprocess.Popen = lambda command, **options: real([sys.executable, "-c", waits], **options)
sys.exit(ui.serve(Path(sys.argv[1]), "127.0.0.1", 3000, lambda said: print(said, file=sys.stderr, flush=True)))
"""


def test_ctrl_c_in_a_terminal_stops_the_ui_without_a_traceback(tmp_path: Path) -> None:
    home = Landing(tmp_path / "home").root
    with subprocess.Popen(
        [sys.executable, "-c", SERVES, str(home)],
        env=os.environ | {"DAGSTER_HOME": str(tmp_path / "dagster")},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as serving:
        try:
            assert serving.stderr is not None
            while "stop it with Ctrl-C" not in serving.stderr.readline():
                assert serving.poll() is None
            os.killpg(serving.pid, signal.SIGINT)
            assert (serving.communicate(timeout=120)[1], serving.returncode) == ("stopping\n", 0)
        finally:
            # Close it here: a warning of the garbage collector would fail another test.
            serving.terminate()


def test_a_port_that_is_taken_is_refused_before_anything_is_announced_or_started(
    tmp_path: Path, started: Callable[[str, str], Started]
) -> None:
    processes, told = started(STAYS, STAYS), list[str]()
    home = Landing(tmp_path / "home").root
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(RefusedError, match=f"^port {port} of 127.0.0.1 is in use: choose another one with --port$"):
            ui.serve(home, "127.0.0.1", port, told.append)
    with pytest.raises(RefusedError, match=r"^port 3000 of 192.0.2.1 cannot be listened on \(.*\): .*--port$"):
        ui.serve(home, "192.0.2.1", 3000, told.append, read_only=True)
    assert (processes, told) == ([], [])
    assert not (home / ".dagster").exists()


@pytest.mark.parametrize(
    ("webserver", "daemon", "status", "said"),
    [
        (STAYS, ENDS, 1, "webserver, daemon or code server ended unexpectedly: see its output above"),
        (ENDS, STAYS, 1, "webserver, daemon or code server ended unexpectedly: see its output above"),
        (STAYS, STOPS_US, 0, "stopping"),
        (STAYS, HANGS_UP, 0, "stopping"),
    ],
    ids=["daemon", "webserver", "signal", "hangup"],
)
def test_both_end_when_either_does_or_on_a_signal(
    tmp_path: Path, started: Callable[[str, str], Started], webserver: str, daemon: str, status: int, said: str
) -> None:
    processes = started(webserver, daemon)
    told: list[str] = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert ui.serve(Landing(tmp_path / "home").root, "127.0.0.1", port, told.append) == status
    assert told[-1] == said
    assert [process.poll() is not None for process in processes] == [True, True, True]
    assert -signal.SIGKILL not in [process.returncode for process in processes], "all are asked first"


def test_webserver_and_daemon_share_definitions_that_follow_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no_assets.py").write_text("import dagster as dg\ndefs = dg.Definitions()\n", "utf-8")
    monkeypatch.setattr(code_server, "PROGRAM", tmp_path)
    monkeypatch.setattr(code_server, "MODULE", "no_assets")
    landing = Landing(tmp_path / "home")
    server = CodeServer(Home(landing.root), tmp_path)
    environment = os.environ | {"DAGSTER_HOME": str(tmp_path)}
    with subprocess.Popen(server.command, env=environment, process_group=0) as process:
        try:
            assert server.wait(process)
            (place,) = yaml.safe_load(server.workspace.read_text("utf-8"))["load_from"]
            asked = DagsterGrpcClient(socket=place["grpc_server"]["socket"])
            first = asked.get_server_id()
            server.keep_up()
            assert asked.get_server_id() == first, "nothing has changed"
            # A delivery of a day before `billing_start`: the calendar of days begins with it.
            landing.deliver([], "2023-12-30")
            server.keep_up()
            second = asked.get_server_id()
            assert second != first
            for children in Path(f"/proc/{process.pid}/task").glob("*/children"):
                for holding in children.read_text().split():
                    os.kill(int(holding), signal.SIGKILL)
            server.keep_up()
            assert asked.get_server_id() not in {first, second}
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                # As `overage ui` does: asked while it starts a child, Dagster's server may go on.
                os.killpg(process.pid, signal.SIGKILL)


def test_a_code_server_that_cannot_start_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CodeServer, "command", [sys.executable, "-c", "pass"])
    server = CodeServer(Home(Landing(tmp_path / "home").root), tmp_path)
    with subprocess.Popen(server.command) as process:
        assert not server.wait(process)

"""The first thing that a reader tries works as it stands: README's example bills an nginx log."""

import re
import shlex
from pathlib import Path

import pytest

from tests.pipeline.outside import one, overage, show

README = Path(__file__).parents[2] / "README.md"


def test_the_first_example_bills_an_nginx_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    block = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)[0]
    told = {}
    # A here-document, or one command a line.
    for redirect, name, content, command in re.findall(
        r"^cat (>>?) (\S+) <<'\w+'\n((?:.*\n)*?)[A-Z]+\n|^(.+)\n", block, re.MULTILINE
    ):
        if name:
            path = Path(name)
            path.write_text((path.read_text() if redirect == ">>" else "") + content)
        elif command.startswith("mkdir -p "):
            Path(command.removeprefix("mkdir -p ")).mkdir(parents=True)
        else:
            program, verb, *arguments = shlex.split(command)
            assert program == ".venv/bin/overage"
            ended = overage(verb, *arguments)
            assert ended.status == 0, ended.messages
            told[verb] = ended.output
    assert "3 rows: 2 counted, 1 ignored" in told["try"]
    file = one([row for row in show(Path("shop"), "ingest") if row["source_name"] == "nginx"])
    assert [file[name] for name in ("rows", "counted", "ignored")] == [3, 2, 1]
    # 51.2 GB of the starting home and 120 GB of the log, over 50 GB.
    assert "171.2 GB - 50 GB = 121.2 GB over the allowance" in told["explain"]

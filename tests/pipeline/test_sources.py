"""Raw logs through the commands: what a source reads is billed, and a changed source is settled like late usage."""

import json
import re
from pathlib import Path

from tests.pipeline.outside import Landing, bill, one, overage, show
from tests.sizes import LONG, sized

SOURCE = """
sources:
  - name: edge
    files: ["edge/**"]
    format: combined
    event:
      id: content
      type: {const: bandwidth.served}
      subject: {field: host, alias: host}
      time: {field: time}
      data.bytes: {field: bytes, null_is: 0}
    keep: [{field: status, in: [200]}]
    set_aside_at_most: 50%
"""


def log(status: int, size: str, second: int) -> str:
    return f'www.example.com - - [12/Jan/2026:10:00:{second:02} +0000] "GET / HTTP/1.1" {status} {size} "-" "curl"\n'


def test_a_log_is_billed_and_a_changed_source_settles_like_late_usage(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.customer("acme")
    catalogue = tmp_path / "landing" / "catalogue.yaml"
    spare = (
        SOURCE.partition("sources:\n")[2].replace("name: edge", "name: spare").replace("null_is", "times: 3, null_is")
    )
    begins, entry = catalogue.read_text() + "\nsources:\n", SOURCE.partition("sources:\n")[2]
    catalogue.write_text(begins + entry + spare)
    (tmp_path / "landing" / "aliases.csv").write_text("kind,alias,account_id,from,to\nhost,www.example.com,acme,,\n")
    edge = tmp_path / "landing" / "usage" / "2026-01-12" / "edge"
    edge.mkdir(parents=True)
    (edge / "a.log").write_text(log(200, "60000000000", 1) + log(404, "5", 2) + "cut\n" + log(200, "-", 3))
    assert bill(tmp_path, "2026-02", "2026-02-15", report=True).status == 0
    file = one(show(tmp_path, "ingest"))
    assert [file[name] for name in ("source_name", "rows", "counted", "rejected", "ignored")] == ["edge", 4, 2, 1, 1]
    assert [line["amount"] for line in show(tmp_path, "lines", metric="bandwidth")] == ["5.00"]

    report = (tmp_path / "reports" / "2026-01.html").read_text()
    assert "Deliveries by source" in report
    assert re.search(r"edge</td>(?:<td[^>]*>[^<]*</td>){7}<td>2026-01-12 10:00:01</td>", report)
    assert "Set aside by source" in report

    # Of several sources that match a file the first reads it.
    order = (spare + entry, "catalogue order of sources has changed: spare, edge")
    files = (entry.replace("edge/**", "none/**") + spare, "catalogue source edge has changed")
    twice = (entry.replace("null_is: 0}", "null_is: 0, times: 2}") + spare, "catalogue source edge has changed")
    for sources, cause in sized([twice], [order, files, twice]):
        catalogue.write_text(begins + sources)
        shown = json.loads(
            overage("preview", "2026-03", "--as-of", "2026-03-15", "--format", "json", "--home", tmp_path).output
        )
        lines = [change for change in one(shown["accounts"])["changes"] if change["what"] == "line"]
        assert lines[1]["causes"] == [cause]
    assert bill(tmp_path, "2026-03", "2026-03-15").status == 0
    assert [line["amount"] for line in show(tmp_path, "lines", kind="prior_cycle")] == ["30.00"]

    (edge / "a.log").write_text(log(200, "60000000000", 1) + log(200, "1000000000", 2))
    shown = json.loads(
        overage("preview", "2026-03", "--as-of", "2026-03-15", "--format", "json", "--home", tmp_path).output
    )
    (cycle,) = [change for change in one(shown["accounts"])["changes"] if change["what"] == "cycle"]
    assert cycle["causes"] == ["delivery 2026-01-12/edge/a.log has changed"]

    # More rejects than the source allows: the file counts nothing, and the command says so.
    (edge / "a.log").write_text(log(200, "60000000000", 1) + "cut\ncut\n")
    ended = bill(tmp_path, *sized(("2026-03", "2026-03-16"), ("2026-04", "2026-04-15")), profiles=LONG)
    assert ended.status == 1
    assert "found 2 of 3 rows set aside (66.7%), expected at most 50%" in ended.messages
    assert not LONG or overage("verify", "--home", tmp_path).status == 0

"""Logs with one record per line: access logs, load balancers, S3, W3C, Zeek, and patterns of one's own."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.model.log_formats import line_pattern
from tests.billing.ingest.raw_logs import business, counts, one_source, sums

COMBINED = (
    "id: content, type: {const: http.request}, subject: {field: user}, time: {field: "
    "time}, data.bytes: {field: bytes, null_is: 0}"
)
AGENT = '"http://example.com/a b" "Mozilla/5.0 (\\"quoted\\") Gecko"'


def line(
    user: str = "acme",
    time: str = "01/Jan/2026:10:00:00 +0000",
    size: str = "100",
    tail: str = " " + AGENT,
    host: str = "192.0.2.1",
) -> str:
    return f'{host} - {user} [{time}] "GET /a?b="c HTTP/1.1" 200 {size}{tail}'.replace('"c ', "c ")


def detail(found: pl.DataFrame, row: int) -> str:
    return str(found.filter(pl.col("row") == row)["detail"].item())


def test_combined_lines_count_with_their_bytes_and_a_dash_is_none(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("combined", COMBINED))
    home.deliver([line(), line(size="-"), line(size="7", tail=f' {AGENT} "extra" 0.004')], name="a.log")
    home.ingest()
    assert counts(home) == {"a.log": (3, 3, 0, 0, 0, 0)}
    assert sums(home, "bandwidth") == {"acme": "107"}


def test_a_dash_without_null_is_sets_the_line_aside(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("combined", COMBINED.replace(", null_is: 0", "")))
    home.deliver([line(), line(size="-")], name="a.log")
    home.ingest()
    assert home.reasons() == {2: "missing_field"}
    assert detail(home.table("rejects"), 2).startswith("data.bytes (field bytes): found nothing, expected a decimal")


def test_common_lines_may_have_further_fields(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("common", COMBINED))
    home.deliver([line(tail=""), line(tail=" 12 x")], name="a.log")
    home.ingest()
    assert counts(home)["a.log"] == (2, 2, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "cut",
    [
        line()[:60],
        line()[:-1],
        line(tail=""),
        "GET / HTTP/1.1",
        line().replace("[", "", 1),
        line(tail=' "http://a" "b'),
    ],
)
def test_a_line_cut_in_the_middle_is_set_aside(tmp_path: Path, cut: str) -> None:
    home = business(tmp_path, one_source("combined", COMBINED))
    home.deliver([line(), cut, line(size="1")], name="a.log")
    home.ingest()
    assert home.reasons() == {2: "unparseable"}
    assert sums(home, "bandwidth") == {"acme": "101"}
    assert home.table("rejects")["text"].item() == cut


def test_the_last_line_without_a_line_end_is_set_aside_unless_the_source_counts_it(tmp_path: Path) -> None:
    text = f"{line()}\n{line(size='5')}"
    for last, expected in (("set_aside", {2: "unfinished_line"}), ("count", {})):
        home = business(tmp_path / last, one_source("combined", COMBINED, last_line=last))
        home.deliver(text, name="a.log")
        home.ingest()
        assert home.reasons() == expected


def test_method_path_and_protocol_come_from_the_request_line(tmp_path: Path) -> None:
    keep = "[{field: method, in: [GET]}, {field: path, matches: '^/a'}, {field: protocol, not_in: [HTTP/2.0]}]"
    home = business(tmp_path, one_source("combined", COMBINED, keep=keep))
    lines = [line(), line().replace("GET", "PUT"), line().replace("/a?", "/b?"), line().replace("HTTP/1.1", "HTTP/2.0")]
    home.deliver([*lines, line().replace("GET /a?b=c HTTP/1.1", "\\x16\\x03\\x01")], name="a.log")
    home.ingest()
    assert counts(home)["a.log"] == (5, 1, 0, 0, 4, 0)


def test_an_offset_of_half_an_hour_counts(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("combined", COMBINED))
    home.deliver([line(time="02/Jan/2026:01:00:00 +0330")], name="a.log")
    home.ingest()
    assert home.events()["time"].dt.to_string("%Y-%m-%dT%H:%M:%S").unique().to_list() == ["2026-01-01T21:30:00"]


@pytest.mark.parametrize(
    "time", ["31/Feb/2026:10:00:00 +0000", "01/Jan/2026:25:00:00 +0000", "01/Jan/9999:10:00:00 +0000", "-"]
)
def test_a_time_that_is_none_is_set_aside(tmp_path: Path, time: str) -> None:
    home = business(tmp_path, one_source("combined", COMBINED))
    home.deliver([line(time=time), line()], name="a.log")
    home.ingest()
    assert home.reasons() == {1: "missing_field" if time == "-" else "invalid_time"}


def test_bytes_that_are_no_text_cost_their_own_line(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("combined", COMBINED))
    home.deliver(
        f"{line()}\n".encode() + line().replace("/a", "/\xe9").encode("latin-1") + f"\n{line(size='2')}\n".encode(),
        name="a.log",
    )
    home.ingest()
    assert home.reasons() == {2: "unparseable"}
    home = business(tmp_path / "named", one_source("combined", COMBINED, encoding="latin-1"))
    home.deliver(line().replace("/a", "/\xe9").encode("latin-1") + b"\n", name="a.log")
    home.ingest()
    assert home.reasons() == {}


W3C = (
    "id: content, type: {const: http.request}, subject: {field: cs-host}, time: {field: "
    "time}, data.bytes: {field: sc-bytes}"
)


def test_the_fields_of_w3c_logs_may_change_in_mid_file(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("w3c", W3C))
    home.deliver(
        [
            "#Software: an example server",
            "#Fields: date time cs-host sc-bytes cs(User-Agent)",
            "2026-01-01 10:00:00 acme 100 agent+one",
            "2026-01-01 10:00:00 acme 100 agent+one",
            "#Fields: sc-bytes date cs-host time",
            "11 2026-01-01 globex 23:59:59",
            "11 2026-01-01 globex 23:59:59 x",
            "- 2026-01-01 globex 23:59:59",
        ],
        name="a.log",
    )
    home.ingest()
    assert counts(home)["a.log"] == (5, 3, 0, 2, 0, 0)
    assert sums(home, "bandwidth") == {"acme": "200", "globex": "11"}
    assert home.reasons() == {7: "unparseable", 8: "missing_field"}
    assert detail(home.table("rejects"), 7) == "row: found 5 fields, expected 4 as in #Fields"


def test_w3c_values_may_stand_between_tabs_and_in_quotation_marks(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("w3c", W3C))
    home.deliver(
        ["#Version: 1.0", "#Fields: date time cs-host sc-bytes", "2026-01-01\t10:00:00\tacme\t9"], name="a.log"
    )
    home.deliver(["#Fields: date time x cs-host sc-bytes", '2026-01-01 10:00:00 "a b" acme 4'], name="b.log")
    home.ingest()
    assert sums(home, "bandwidth") == {"acme": "13"}


def test_a_w3c_line_before_the_names_is_set_aside(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("w3c", W3C))
    home.deliver(
        ["2026-01-01 10:00:00 acme 100", "#Fields: date time cs-host sc-bytes", "2026-01-01 10:00:00 acme 1"], name="a"
    )
    home.ingest()
    assert home.reasons() == {1: "unparseable"}


def test_zeek_logs_name_separator_and_what_is_unset(tmp_path: Path) -> None:
    event = (
        "id: {field: uid}, type: {const: http.request}, subject: {field: host}, data.bytes: "
        "{field: orig_bytes, null_is: 0}"
    )
    home = business(tmp_path, one_source("zeek", event))
    home.deliver(
        [
            "#separator \\x09",
            "#set_separator\t,",
            "#empty_field\t(empty)",
            "#unset_field\t-",
            "#path\tconn",
            "#fields\tts\tuid\thost\torig_bytes",
            "#types\ttime\tstring\tstring\tcount",
            "1767261600.123456\tC1\tacme\t10",
            "1767261601.000001\tC2\tacme\t-",
            "1767261602.5\tC3\t(empty)\t-",
            "#close\t2026-01-01-12-00-00",
        ],
        name="conn.log",
    )
    home.ingest()
    assert counts(home)["conn.log"] == (3, 2, 0, 1, 0, 0)
    assert home.events()["time"].dt.to_string("%H:%M:%S%.f").to_list()[0] == "10:00:00.123456"


@pytest.mark.parametrize(("written", "separator"), [("\\x2c", ","), ("\\x7c", "|"), ("\\x20", " ")])
def test_zeek_logs_may_be_separated_by_other_characters(tmp_path: Path, written: str, separator: str) -> None:
    event = "id: {field: uid}, type: {const: http.request}, subject: {field: host}, data.bytes: {field: resp_bytes}"
    home = business(tmp_path, one_source("zeek", event))
    rows = [
        "#unset_field\t-",
        "#fields\tts\tuid\thost\tresp_bytes",
        "1767261600\tC1\tacme\t10",
        "1767261600\tC2\tacme\t-",
    ]
    home.deliver([f"#separator {written}", *(row.replace("\t", separator) for row in rows)], name="conn.log")
    home.ingest()
    assert sums(home, "bandwidth") == {"acme": "10"}
    assert home.reasons() == {5: "missing_field"}


ALB = (
    "https 2026-01-01T10:00:00.123456Z app/lb/50dc 192.0.2.1:2817 10.0.0.1:80 0.086 0.048 0.037 200 200 12 57 "
    '"GET https://www.example.com:443/ HTTP/1.1" "curl/7.46.0" ECDHE TLSv1.2 arn:aws:x "Root=1-58337281" '
    '"www.example.com" "arn:aws:acm:y" 0 2026-01-01T10:00:00.100000Z "forward" "-" "-" '
    '"10.0.0.1:80" "200" "-" "-" TID_1'
)


def test_load_balancer_lines_may_be_shorter_or_longer(tmp_path: Path) -> None:
    event = (
        "id: content, type: {const: http.request}, subject: {const: acme}, time: {field: "
        "time}, data.bytes: {field: sent_bytes}"
    )
    home = business(tmp_path, one_source("alb", event, keep="[{field: domain_name, not_in: [www.example.org]}]"))
    classic = " ".join(ALB.split(" ")[:12])
    cut = ALB[: ALB.index("curl") + 2]
    home.deliver(
        [ALB, f'{ALB} "more" x', classic, cut, ALB.replace("www.example.com", "www.example.org")], name="a.log"
    )
    home.ingest()
    assert counts(home)["a.log"] == (5, 3, 0, 1, 1, 0)
    assert sums(home, "bandwidth") == {"acme": "171"}
    assert home.reasons() == {4: "unparseable"}


@pytest.mark.parametrize("name", ["bytes_sent", "Bytes Sent", "bytes-sent"])
def test_s3_lines_are_read_by_the_names_of_their_documentation(tmp_path: Path, name: str) -> None:
    event = (
        f"id: {{field: Request ID}}, type: {{const: http.request}}, subject: {{field: "
        f"bucket}}, time: {{field: time}}, data.bytes: {{field: {name}, null_is: 0}}"
    )
    home = business(tmp_path, one_source("s3_access", event))
    text = (
        "79a5 acme [01/Jan/2026:10:00:00 +0000] 192.0.2.3 79a5 3E57427F REST.GET.OBJECT photo.jpg "
        '"GET /acme/photo.jpg HTTP/1.1" 200 - 113 - 7 - "-" "S3Console/0.4" - host SigV4 '
        "ECDHE AuthHeader a.example.com TLSv1.2 - -"
    )
    home.deliver([text, text.replace("3E57427F", "3E57427G").replace(" 113 ", " - ")], name="a")
    home.ingest()
    assert counts(home)["a"] == (2, 2, 0, 0, 0, 0)
    assert sums(home, "bandwidth") == {"acme": "113"}


def test_an_nginx_log_format_is_read_as_it_is_written(tmp_path: Path) -> None:
    template = '$host $msec [$time_local] "$request" ${body_bytes_sent}b "$http_user_agent"'
    event = (
        "id: content, type: {const: http.request}, subject: {field: host}, time: {field: "
        "msec}, data.bytes: {field: body_bytes_sent}"
    )
    home = business(tmp_path, one_source(f"{{nginx: '{template}'}}", event))
    text = 'acme 1767261600.123 [01/Jan/2026:10:00:00 +0000] "GET /a [b] HTTP/1.1" 12b "x [y] \\"z\\""'
    home.deliver([text, text + " more", text.replace("12b", "-b")], name="a.log")
    home.ingest()
    assert home.reasons() == {2: "unparseable", 3: "missing_field"}
    assert sums(home, "bandwidth") == {"acme": "12"}


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.sampled_from(["$a", "$b", "$c", " ", "[", "]", '"', "x", " - "]), min_size=2, max_size=9),
    st.lists(st.text('ab x[]"\\-', max_size=14), min_size=1, max_size=8),
)
def test_the_narrow_pattern_of_a_log_format_reads_what_the_wide_one_reads(pieces: list[str], lines: list[str]) -> None:
    try:
        pattern = line_pattern("nginx", "".join(pieces), ())
    except ValueError:
        return
    texts = pl.Series(lines)
    narrow, wide = (texts.str.extract_groups(each).struct.unnest() for each in (pattern.pattern, pattern.wide))
    matching = narrow.to_series(0).is_not_null()
    assert narrow.filter(matching).equals(wide.filter(matching))


def test_names_with_blanks_are_read_too(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("combined", COMBINED), accounts={"acme", "acme corp [x]"})
    home.deliver([line(), line("acme corp [x]", size="7")], name="a.log")
    home.ingest()
    assert sums(home, "bandwidth") == {"acme": "100", "acme corp [x]": "7"}


def test_a_pattern_of_ones_own_reads_lines(tmp_path: Path) -> None:
    event = (
        "id: {field: n}, type: {const: http.request}, subject: {field: who}, time: {field: "
        "at, format: epoch_s}, data.bytes: {field: size, null_is: 0}"
    )
    pattern = r"^(?P<n>\d+) (?P<who>\w+) (?P<at>\d+)(?: (?P<size>\S+))?$"
    home = business(tmp_path, one_source(f"{{regex: '{pattern}'}}", event, null="[none]"))
    home.deliver(["1 acme 1767261600 8", "2 acme 1767261600", "3 acme 1767261600 none", "4 acme"], name="a.log")
    home.ingest()
    assert counts(home)["a.log"] == (4, 3, 0, 1, 0, 0)
    assert sums(home, "bandwidth") == {"acme": "8"}


def test_line_ends_of_any_kind_and_byte_order_marks(tmp_path: Path) -> None:
    for place, text in enumerate((b"\r\n", b"\r", b"\n")):
        home = business(tmp_path / str(place), one_source("combined", COMBINED))
        home.deliver(b"\xef\xbb\xbf" + text.join([line().encode(), line(size="2").encode(), b""]), name="a.log")
        home.ingest()
        assert sums(home, "bandwidth") == {"acme": "102"}


def test_utf_16_is_told_by_its_byte_order_mark(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("combined", COMBINED))
    home.deliver(f"{line()}\n{line(size='2')}\n".encode("utf-16"), name="a.log")
    home.deliver(f"{line()}\n{line(size='3')}".encode("utf-16"), name="b.log")
    home.ingest()
    assert sums(home, "bandwidth") == {"acme": "102"}
    assert counts(home)["b.log"] == (2, 0, 1, 1, 0, 0)

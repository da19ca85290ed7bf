"""Readers of the samples in plain Python, independent of Overage's own: what each record is worth, one by one."""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

import pyarrow.parquet as pq

ACCOUNTS = ("acme", "globex")
NAMES = {
    "login": {"acme-app": "acme", "acme-batch": "acme", "globex-app": "globex"},
    "host": {"acme.example.com": "acme", "www.acme.example.com": "acme", "globex.example.com": "globex"},
    "address": {"192.0.2.10": "acme", "198.51.100.7": "globex"},
    "log_file": {"apache_common/apache_common.log": "acme", "apache_common/again/apache_common.log.gz": "acme"},
    "bucket": {"acme-files": "acme", "globex-files": "globex"},
    "stripe": {"cus_acme000001": "acme", "cus_globex0001": "globex"},
    "team": {"team-1": "acme", "team-2": "globex"},
    "api_key": {"acme-prod": "acme", "globex-prod": "globex"},
    "cloud_account": {"111122223333": "acme", "444455556666": "globex"},
}
"""By kind of alias: the accounts behind the names in the samples."""


@dataclass(frozen=True)
class Used:
    """A record that can count: `id` None for one whose text is its identity."""

    id: object
    account: str | None
    time: datetime
    values: tuple[tuple[str, str], ...]
    """Metrics, and what the record adds to each, as text."""


class Wrong(Exception):  # noqa: N818  # Raised by readers for a record that must be set aside.
    """The record must be set aside."""


class NotKept(Exception):  # noqa: N818
    """The record is one that the source does not keep."""


Reader = Callable[[Path], Iterator[Used | type[Exception]]]


def judged(read: Callable[..., Used], *arguments: object) -> Used | type[Exception]:
    try:
        used = read(*arguments)
    except NotKept:
        return NotKept
    except (Wrong, ArithmeticError, KeyError, ValueError, TypeError, IndexError, AttributeError):
        return Wrong
    for _, value in used.values:
        try:
            if not 0 <= Decimal(value) < 10**18:
                return Wrong
        except InvalidOperation:
            return Wrong
    return used


def kept(condition: object) -> None:
    if not condition:
        raise NotKept


def one(text: str | None) -> str:
    """A text that must be there."""
    if text in (None, "", "-"):
        raise Wrong
    return str(text)


def served(size: str) -> tuple[tuple[str, str], ...]:
    return (("bandwidth", size), ("requests", "1"))


def log_time(text: str) -> datetime:
    return datetime.strptime(text, "%d/%b/%Y:%H:%M:%S %z")


def instant(text: str) -> datetime:
    found = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    if found.tzinfo is None:
        raise Wrong
    return found


def seconds(text: object) -> datetime:
    return datetime.fromisoformat("1970-01-01T00:00:00Z") + (Decimal(str(text)) * 10**6).__int__() * _MICROSECOND


_MICROSECOND = datetime.resolution

# -- Lines ----------------------------------------


def lines(pattern: str, read: Callable[[Mapping[str, str]], Used]) -> Reader:
    def reader(path: Path) -> Iterator[Used | type[Exception]]:
        for text in path.read_text().splitlines():
            found = re.fullmatch(pattern, text)
            yield Wrong if found is None else judged(read, found.groupdict())

    return reader


_QUOTED = r'(?:[^"\\]|\\.)*'
_CLF = rf'(?P<host>\S+) \S+ (?P<user>\S+) \[(?P<time>[^]]+)\] "(?P<request>{_QUOTED})" (?P<status>\d+) (?P<bytes>\S+)'
_COMBINED = rf'{_CLF} "{_QUOTED}" "(?P<agent>{_QUOTED})"'


def nginx_combined(line: Mapping[str, str]) -> Used:
    kept(line["status"] not in ("401", "403"))
    account = NAMES["login"].get(one(line["user"]))
    return Used(None, account, log_time(line["time"]), served(line["bytes"]))


def nginx_hosts(line: Mapping[str, str]) -> Used:
    kept(line["status"] in ("200", "206"))
    size = "0" if line["size"] == "-" else line["size"]
    return Used(one(line["id"]), NAMES["host"].get(line["host"]), instant(line["time"]), served(size))


def apache_combined(line: Mapping[str, str]) -> Used:
    kept(line["agent"] != "ExampleMonitor/1.0")
    size = "0" if line["bytes"] == "-" else line["bytes"]
    return Used(None, NAMES["address"].get(line["host"]), log_time(line["time"]), served(size))


def apache_common(line: Mapping[str, str]) -> Used:
    kept(line["request"].startswith("GET "))
    size = "0" if line["bytes"] == "-" else line["bytes"]
    return Used(None, "acme", log_time(line["time"]), served(size))


def apache_vhosts(line: Mapping[str, str]) -> Used:
    kept(line["status"] not in ("401", "403", "404"))
    size = "0" if line["bytes"] == "-" else line["bytes"]
    return Used(None, NAMES["host"].get(one(line["vhost"])), log_time(line["time"]), served(size))


def w3c(read: Callable[[Mapping[str, str]], Used], separator: str) -> Reader:
    def reader(path: Path) -> Iterator[Used | type[Exception]]:
        names: list[str] = []
        for text in path.read_text().splitlines():
            if text.startswith("#"):
                names = text.split(": ")[1].split(" ") if text.startswith("#Fields") else names
                continue
            parts = text.split(separator)
            yield judged(read, dict(zip(names, parts, strict=True))) if len(parts) == len(names) else Wrong

    return reader


def iis(line: Mapping[str, str]) -> Used:
    kept(line["sc-status"] not in ("401", "403", "404"))
    at = instant(f"{line['date']}T{line['time']}Z")
    return Used(None, NAMES["host"].get(one(line["cs-host"])), at, served(line["sc-bytes"]))


def cloudfront(line: Mapping[str, str]) -> Used:
    kept(line["x-edge-result-type"] != "Error")
    at = instant(f"{line['date']}T{line['time']}Z")
    account = NAMES["host"].get(line["x-host-header"])
    return Used(line["x-edge-request-id"], account, at, served(line["sc-bytes"]))


def tokens(least: int, read: Callable[[list[str]], Used]) -> Reader:
    def reader(path: Path) -> Iterator[Used | type[Exception]]:
        for text in path.read_text().splitlines():
            parts = re.findall(rf'"{_QUOTED}"|\[[^]]*\]|\S+', text)
            is_cut = len(parts) < least or text.replace('\\"', "").count('"') % 2
            yield Wrong if is_cut else judged(read, [part.strip('"[]') for part in parts])

    return reader


def alb(part: list[str]) -> Used:
    kept(part[0] in ("https", "h2", "wss", "grpcs"))
    return Used(None, NAMES["host"].get(one(part[18])), instant(part[1]), served(part[11]))


def s3(part: list[str]) -> Used:
    kept(part[6] == "REST.GET.OBJECT")
    size = "0" if part[11] == "-" else part[11]
    return Used(part[5], NAMES["bucket"].get(part[1]), log_time(part[2]), served(size))


# -- JSON ----------------------------------------


def loaded(text: str) -> dict[str, object]:
    return json.loads(text, parse_float=str, parse_int=str)  # type: ignore[no-any-return]


def json_lines(read: Callable[[dict[str, object]], Used]) -> Reader:
    def reader(path: Path) -> Iterator[Used | type[Exception]]:
        for text in path.read_text().splitlines():
            try:
                yield judged(read, loaded(text))
            except ValueError:
                yield Wrong

    return reader


def pretty_objects(read: Callable[[dict[str, object]], Used]) -> Reader:
    def reader(path: Path) -> Iterator[Used | type[Exception]]:
        for text in re.split(r"\n(?=\{)", path.read_text()):
            try:
                yield judged(read, loaded(text))
            except ValueError:
                yield Wrong

    return reader


def arrays(read: Callable[[dict[str, object]], Used]) -> Reader:
    def reader(path: Path) -> Iterator[Used | type[Exception]]:
        for text in path.read_text().splitlines():
            for item in loaded(text):
                yield judged(read, item)

    return reader


def cloudflare(row) -> Used:  # type: ignore[no-untyped-def]  # Rows are JSON of any shape.
    kept(row.get("ClientRequestSource") != "edgeWorkerFetch")
    time = seconds(Decimal(row["EdgeStartTimestamp"]) / 10**9)
    account = NAMES["host"].get(row["ClientRequestHost"])
    return Used((row["RayID"], row["EdgeStartTimestamp"]), account, time, served(one(row["EdgeResponseBytes"])))


def account_of(name: str | None) -> str | None:
    return one(name) if name in ACCOUNTS else (one(name) and None)


def ses(row) -> Used:  # type: ignore[no-untyped-def]
    kept(row["Type"] == "Notification")
    event = loaded(row["Message"])
    kept(event["eventType"] not in ("Send", "Open"))
    if event["eventType"] != "Delivery":
        raise Wrong
    mail, delivery = event["mail"], event["delivery"]
    identity = (mail["messageId"], delivery["recipients"][0])  # type: ignore[index]
    account = account_of(mail["tags"]["customer"][0])  # type: ignore[index]
    return Used(identity, account, instant(delivery["timestamp"]), (("emails", "1"),))  # type: ignore[index]


def sendgrid(row) -> Used:  # type: ignore[no-untyped-def]
    kept(row["event"] not in ("processed", "open", "click"))
    if row["event"] != "delivered":
        raise Wrong
    return Used(one(row["sg_event_id"]), account_of(row["customer"]), seconds(row["timestamp"]), (("emails", "1"),))


def postmark(row) -> Used:  # type: ignore[no-untyped-def]
    kept(row["RecordType"] not in ("Open", "Bounce"))
    if row["RecordType"] != "Delivery":
        raise Wrong
    identity = (row["MessageID"], row["Recipient"])
    return Used(identity, account_of(row["Metadata"]["customer"]), instant(row["DeliveredAt"]), (("emails", "1"),))


def mailgun(row) -> Used:  # type: ignore[no-untyped-def]
    event = row["event-data"]
    kept(event["event"] not in ("accepted", "opened"))
    if event["event"] != "delivered":
        raise Wrong
    account = account_of(event["user-variables"]["customer"])
    return Used((event["id"], event["timestamp"]), account, seconds(event["timestamp"]), (("emails", "1"),))


def segment(row) -> Used:  # type: ignore[no-untyped-def]
    kept(row["type"] == "track" and row["event"] not in ("Signed In", "Report Viewed"))
    if row["event"] != "Report Created":
        raise Wrong
    account = account_of(row["context"]["groupId"])
    return Used(row["messageId"], account, instant(row["timestamp"]), (("reports", "1"),))


def stripe(row) -> Used:  # type: ignore[no-untyped-def]
    kept(row["livemode"] is True)
    if row["event_name"] != "api_requests":
        raise Wrong
    account = NAMES["stripe"].get(row["payload"]["stripe_customer_id"])
    return Used(row["identifier"], account, seconds(row["timestamp"]), (("api_calls", one(row["payload"]["value"])),))


def attributes(holder) -> dict[str, str]:  # type: ignore[no-untyped-def]
    return {each["key"]: next(iter(each["value"].values())) for each in holder["attributes"]}


def documents(path: Path) -> Iterator[dict[str, object] | None]:
    for text in path.read_text().splitlines():
        try:
            yield loaded(text)
        except ValueError:
            yield None


def otel_logs(path: Path) -> Iterator[Used | type[Exception]]:
    for document in documents(path):
        if document is None:
            yield Wrong
            continue
        for resource in document["resourceLogs"]:  # type: ignore[attr-defined]
            for scope in resource["scopeLogs"]:
                for record in scope["logRecords"]:
                    yield judged(_log_record, record, attributes(resource["resource"]))


def _log_record(record, resource: dict[str, str]) -> Used:  # type: ignore[no-untyped-def]
    kept(resource.get("deployment.environment.name") != "staging")
    if record["eventName"] != "job.finished":
        raise Wrong
    found = attributes(record)
    time = seconds(Decimal(record["timeUnixNano"]) / 10**9)
    return Used(None, account_of(found["customer.id"]), time, (("job_seconds", found["job.seconds"]),))


def otel_metrics(path: Path) -> Iterator[Used | type[Exception]]:
    for document in documents(path):
        if document is None:
            yield Wrong
            continue
        for resource in document["resourceMetrics"]:  # type: ignore[attr-defined]
            instance = attributes(resource["resource"])["service.instance.id"]
            for scope in resource["scopeMetrics"]:
                for metric in scope["metrics"]:
                    for point in metric.get("sum", {}).get("dataPoints", []):
                        yield judged(_point, point, metric["name"], instance)


def _point(point, name: str, instance: str) -> Used:  # type: ignore[no-untyped-def]
    kept(name not in ("process.cpu.time", "http.server.active_requests"))
    if name not in ("api.calls", "api.batch.calls"):
        raise Wrong
    customer = attributes(point)["customer.id"]
    time = seconds(Decimal(point["timeUnixNano"]) / 10**9)
    identity = (instance, name, customer, point["timeUnixNano"])
    return Used(identity, account_of(customer), time, (("api_calls", point["asInt"]),))


def litellm(row) -> Used:  # type: ignore[no-untyped-def]
    kept(row["status"] == "success")
    usage = row["metadata"]["usage_object"] or {}
    details = usage.get("prompt_tokens_details") or {}
    values = (
        ("input_tokens", one(row["prompt_tokens"])),
        ("output_tokens", one(row["completion_tokens"])),
        ("cached_tokens", details.get("cached_tokens", "0")),
    )
    account = NAMES["team"].get(one(row["metadata"]["user_api_key_team_id"]))
    return Used(row["id"], account, seconds(row["startTime"]), values)


def llm_gateway(row) -> Used:  # type: ignore[no-untyped-def]
    kept(row["status"] == "200")
    usage = row["response"]["usage"]
    values = (
        ("input_tokens", one(usage["input_tokens"])),
        ("output_tokens", one(usage["output_tokens"])),
        ("cached_tokens", usage.get("cache_read_input_tokens", "0")),
    )
    return Used(row["request_id"], NAMES["api_key"].get(one(row["api_key_name"])), instant(row["finished_at"]), values)


# -- Tables ----------------------------------------


def table(read: Callable[[Mapping[str, str]], Used]) -> Reader:
    def reader(path: Path) -> Iterator[Used | type[Exception]]:
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
        for row in rows:
            yield judged(read, dict(zip(header, row, strict=True))) if len(row) == len(header) else Wrong

    return reader


def postgresql(row: Mapping[str, str]) -> Used:
    kept(row["kind"] != "login")
    if row["kind"] != "api_call":
        raise Wrong
    return Used(
        row["id"], account_of(row["customer_id"]), instant(row["created_at"]), (("api_calls", row["quantity"]),)
    )


def duckdb(path: Path) -> Iterator[Used | type[Exception]]:
    for row in pq.read_table(path).to_pylist():
        yield judged(_exported, row)


def _exported(row) -> Used:  # type: ignore[no-untyped-def]
    kept(row["is_test"] is not True)
    size = "0" if row["bytes_sent"] is None else str(row["bytes_sent"])
    if row["used_at"] is None:
        raise Wrong
    return Used(one(row["event_id"]), account_of(row["account"]["id"]), row["used_at"], served(size))


def focus(row: Mapping[str, str]) -> Used:
    kept(row["ChargeCategory"] == "Usage")
    account = None if row["SubAccountId"] == "NULL" else NAMES["cloud_account"].get(row["SubAccountId"])
    time = datetime.fromisoformat(row["ChargePeriodStart"].removesuffix("Z") + "+00:00")
    return Used(None, account, time, (("cloud_cost", row["BilledCost"]),))


def aws_cur(row: Mapping[str, str]) -> Used:
    kept(row["line_item_line_item_type"] == "Usage")
    identity = (one(row["identity_line_item_id"]), row["identity_time_interval"])
    account = NAMES["cloud_account"].get(row["line_item_usage_account_id"])
    cost = f"{Decimal(one(row['line_item_unblended_cost'])):f}"
    return Used(identity, account, instant(row["line_item_usage_start_date"]), (("cloud_cost", cost),))


READERS: dict[str, tuple[str, Reader]] = {
    "nginx_combined": ("nginx_combined.log", lines(_COMBINED, nginx_combined)),
    "nginx_hosts": (
        "nginx_hosts.log",
        lines(
            r'(?P<host>\S+) \S+ \[(?P<time>\S+)\] "[^"]*" (?P<status>\d+) (?P<size>\S+) "[^"]*" (?P<id>\S+)',
            nginx_hosts,
        ),
    ),
    "apache_combined": ("apache_combined.log", lines(_COMBINED, apache_combined)),
    "apache_common": ("apache_common.log", lines(_CLF, apache_common)),
    "apache_vhosts": ("apache_vhosts.log", lines(rf"(?P<vhost>\S+):\d+ {_COMBINED}", apache_vhosts)),
    "iis": ("iis.log", w3c(iis, " ")),
    "cloudfront": ("cloudfront.log", w3c(cloudfront, "\t")),
    "alb": ("alb.log", tokens(29, alb)),
    "s3_access": ("s3_access.log", tokens(25, s3)),
    "cloudflare": ("cloudflare.jsonl", json_lines(cloudflare)),
    "ses": ("ses.jsonl", json_lines(ses)),
    "sendgrid": ("sendgrid.json", arrays(sendgrid)),
    "postmark": ("postmark.jsonl", json_lines(postmark)),
    "mailgun": ("mailgun.jsonl", json_lines(mailgun)),
    "segment": ("segment.jsonl", json_lines(segment)),
    "stripe": ("stripe.json", pretty_objects(stripe)),
    "otel_logs": ("otel_logs.jsonl", otel_logs),
    "otel_metrics": ("otel_metrics.jsonl", otel_metrics),
    "litellm": ("litellm.jsonl", json_lines(litellm)),
    "llm_gateway": ("llm_gateway.jsonl", json_lines(llm_gateway)),
    "postgresql": ("postgresql.csv", table(postgresql)),
    "duckdb": ("duckdb.parquet", duckdb),
    "focus": ("focus.csv", table(focus)),
    "aws_cur": ("aws_cur.csv", table(aws_cur)),
}
"""By source: its sample, and the reader of it."""

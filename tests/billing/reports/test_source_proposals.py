"""What a proposal lists of a file that no source reads."""

import pytest

from billing.reports.source_proposals import propose
from tests.billing.ingest.sources.ready_sources import SAMPLES


@pytest.mark.parametrize(
    ("sample", "field", "example"),
    [
        ("ses.jsonl", "Message.mail.tags.customer[0]", "acme"),
        ("otel_logs.jsonl", 'attributes["customer.id"].stringValue', "acme"),
        ("cloudflare.jsonl", "ClientRequestHost", "acme.example.com"),
    ],
)
def test_fields_are_listed_by_the_paths_that_a_source_reads(sample: str, field: str, example: str) -> None:
    proposal = propose(SAMPLES / sample, sample, ())
    assert {each.name: each.example for each in proposal.fields}[field] == example

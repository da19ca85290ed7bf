"""Whoever looks for a rule of billing finds it in the code, in one place."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RULES = (*range(1, 29), *range(31, 35), 38, 39)


def places() -> dict[int, list[str]]:
    """By rule: the modules with a text `Rule N:`; others may mention a rule, and then write it small."""
    found: dict[int, list[str]] = {rule: [] for rule in RULES}
    for path in sorted((ROOT / "billing").rglob("*.py")):
        for number in re.findall(r"\bRule (\d+):", path.read_text()):
            found[int(number)].append(path.relative_to(ROOT).as_posix())
    return found


def test_every_rule_has_one_place_in_the_code() -> None:
    assert {rule: modules for rule, modules in places().items() if len(modules) != 1} == {}


def test_the_guide_for_contributors_names_the_place_of_every_rule() -> None:
    rows = re.findall(r"^\| (\d+) \| .+ \| `(.+)` \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert {int(rule): [module] for rule, module in rows} == places()

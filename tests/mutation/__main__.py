"""Mutation testing: how many small changes to the rules would the tests notice?

``make mutation`` runs all mutants of the modules below; ``python -m tests.mutation cycles tax`` those of some modules.
The mutants are mutmut's. They are run here and not by ``mutmut run`` because starting pytest costs more than most of
these tests: one process collects the tests once and forks for each mutant, and the child changes one function in
place and runs the tests that call it until one fails. What survives is printed as a change of a line.
"""

import argparse
import difflib
import gc
import os
import pickle
import re
import select
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, Final

import libcst as cst
import pytest
from click import echo
from mutmut.mutation.file_mutation import create_mutations

TESTS: Final[Mapping[str, Sequence[str]]] = {
    "model.money": ["model/test_money", "rules/test_rating"],
    "rules.tax": ["rules/test_tax"],
    "rules.decisions": ["rules/test_decisions"],
    "rules.cycles": ["rules/test_cycles", "rules/test_subscriptions"],
    "rules.rating": [
        "rules/test_rating",
        "rules/test_percentages",
        "rules/test_dimensions",
        "rules/test_package_changes",
    ],
    "rules.terms": [
        "rules/test_rating",
        "rules/test_percentages",
        "rules/test_dimensions",
        "rules/test_package_changes",
    ],
    "rules.dimensions": ["rules/test_dimensions"],
    "rules.package_changes": ["rules/test_package_changes"],
    "rules.settled_changes": ["rules/test_package_changes"],
    "rules.subscriptions": ["rules/test_subscriptions"],
    "rules.redemptions": ["rules/test_redemptions"],
    "rules.add_ons": ["rules/test_add_ons", "rules/test_add_on_fees", "rules/test_add_on_changes"],
    "rules.add_on_changes": ["rules/test_add_on_changes"],
    "rules.add_on_fees": ["rules/test_add_on_fees"],
    "rules.prepaid_credits": ["rules/test_prepaid_credits"],
    "rules.credit_balances": ["rules/test_prepaid_credits", "rules/test_credit_balances"],
    "rules.minimum_spend": ["rules/test_minimum_spend"],
    "rules.coupons": ["rules/test_coupons"],
    "rules.currencies": ["rules/test_currencies"],
    "rules.seats": ["rules/test_seats"],
    "rules.upgrades_at_once": ["rules/test_upgrades_at_once"],
}
"""The modules of rules, and the tests that speak of each."""
ENOUGH: Final = 90
"""Percent of its mutants that must be noticed in every module."""
_ROOT: Final = Path(__file__).parents[2]
_EXAMPLES: Final = 30
_SECONDS: Final = 300
"""A mutant that runs so long is noticed: it loops, or waits for ever."""


@dataclass(frozen=True)
class Mutant:
    """One function, changed in one place."""

    function: str
    number: int
    change: str
    code: str

    @property
    def name(self) -> str:
        """The function, and which of its mutants this is."""
        return f"{self.function}#{self.number}"


def mutants_of(module: str) -> Iterator[Mutant]:
    """All mutants of a module of billing, in the order of its text."""
    path = _ROOT / "billing" / f"{module.replace('.', '/')}.py"
    _, mutations, *_ = create_mutations(str(path), path.read_text())
    numbers: Counter[str] = Counter()
    for mutation in mutations:
        function = mutation.contained_by_top_level_function
        # A default of a class's attribute stands in a statement.
        if isinstance(function, cst.FunctionDef):
            name = function.name.value
            numbers[name] += 1
            original = cst.Module([function]).code
            replaced = function.deep_replace(mutation.original_node, mutation.mutated_node)
            # A method is exchanged beneath its decorators.
            changed = cst.Module([cst.ensure_type(replaced, cst.FunctionDef).with_changes(decorators=[])]).code
            yield Mutant(name, numbers[name], _change(original, changed), changed)


def _change(original: str, changed: str) -> str:
    """The lines that differ: ``was => is``."""
    lines = list(difflib.unified_diff(original.splitlines(), changed.splitlines(), n=0, lineterm=""))[2:]
    was, now = (" ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
    return f"{was} => {now}"


class Session:
    """A pytest plugin that runs mutants in the place of tests.

    Polars starts threads that do not survive a fork, so nothing is run in the first process: not even a fixture.

    Attributes
    ----------
    results
        Of every module: how many mutants were killed, how many survived, and how many are the same byte code.
    """

    def __init__(self, modules: Sequence[str], only: str) -> None:
        self.modules, self.only = modules, only
        self.results: dict[str, Counter[str]] = {}

    def pytest_configure(self) -> None:
        """The same examples on every run, and no search for the smallest one."""
        from hypothesis import Phase, settings  # not before pytest, which rewrites its assertions

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutation", derandomize=True, database=None, deadline=None, phases=phases)
        settings.load_profile("mutation")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run every mutant against the tests that call its function."""
        items = {item.nodeid: item for item in session.items}
        for item in session.items:
            _shorten(item)
        live = {name: import_module(f"billing.{name}") for name in self.modules}
        files = {str(module.__file__) for module in live.values()}
        calls, seconds, failed = _forked(lambda: _observed(session.items, files))
        if failed:
            raise pytest.UsageError(f"without any mutant these tests fail already: {', '.join(failed)}")
        gc.collect()
        gc.freeze()  # a child that collects would copy every page it looks at
        for name, module in live.items():
            counted = self.results[name] = Counter()
            noticed: dict[str, Counter[str]] = defaultdict(Counter)
            own = tuple(f"tests/billing/{test}.py" for test in TESTS[name])
            for mutant in mutants_of(name):
                if not re.search(self.only, mutant.name):
                    continue
                known, called = noticed[mutant.function], calls[module.__file__, mutant.function]
                # first what noticed other changes of this function, then the quickest
                order = sorted((test not in known, seconds[test] / (1 + known[test]), test) for test in called)
                tests = [items[test] for *_, test in order if test.startswith(own)]
                verdict, test = _verdict(mutant, module, tests)
                counted[verdict] += 1
                known[test] += 1
                if verdict == "survived":
                    echo(f"{name}.{mutant.name}: {mutant.change}")
        return True


def _shorten(item: pytest.Item) -> None:
    """Let a property test try a few examples: what most mutants break, they break at once."""
    function = getattr(item, "obj", None)
    current = getattr(function, "_hypothesis_internal_use_settings", None)
    if current is not None:
        from hypothesis import settings

        fewer = settings(current, max_examples=min(current.max_examples, _EXAMPLES))
        function._hypothesis_internal_use_settings = fewer  # type: ignore[union-attr] # it has settings, so it is one


def _observed(
    items: Sequence[pytest.Item], files: set[str]
) -> tuple[dict[tuple[str | None, str], list[str]], dict[str, float], list[str]]:
    """Which tests call which function, how long they take, and which fail; run in a child."""
    calls: dict[tuple[str | None, str], list[str]] = defaultdict(list)
    seconds: dict[str, float] = {}
    failed: list[str] = []
    seen: set[tuple[str, str]] = set()

    def watch(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename in files:
            seen.add((frame.f_code.co_filename, frame.f_code.co_name))

    for item, following in zip(items, [*items[1:], None], strict=True):
        seen.clear()
        started = time.monotonic()
        sys.setprofile(watch)
        failed += [item.nodeid] * _reports_failure(item, following)
        sys.setprofile(None)
        seconds[item.nodeid] = time.monotonic() - started
        for key in seen:
            calls[key].append(item.nodeid)
    return calls, seconds, failed


def _verdict(mutant: Mutant, module: ModuleType, items: Sequence[pytest.Item]) -> tuple[str, str]:
    """What became of a mutant, and the test that noticed it."""
    function = _function_of(module, mutant.function)
    names = dict(vars(module))
    try:
        exec(compile(mutant.code, f"<{mutant.name}>", "exec"), names)  # noqa: S102 # a mutant of our own code
        changed: FunctionType = names[mutant.function]
        if _same(changed.__code__, function.__code__) and changed.__defaults__ == function.__defaults__:
            return "identical", ""
        test = _forked(lambda: _noticed_by(items, function, changed))
    except Exception:  # what cannot be defined, crashes, or never ends is noticed by every test
        return "killed", ""
    return "killed" if test else "survived", test


def _function_of(module: ModuleType, name: str) -> FunctionType:
    """A function of a module, or a method of one of its classes."""
    own = (each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__)
    found = next(space[name] for space in (vars(module), *map(vars, own)) if name in space)
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, cached_property):
        found = found.func
    function: FunctionType = getattr(found, "__func__", found)
    return function


def _same(one: CodeType, other: CodeType) -> bool:
    """Whether two functions do the same, instruction by instruction."""

    def instructions(code: CodeType) -> tuple[object, ...]:
        return code.co_code, code.co_names, code.co_varnames, len(code.co_consts)

    return instructions(one) == instructions(other) and all(
        _same(a, b) if isinstance(a, CodeType) and isinstance(b, CodeType) else (type(a), a) == (type(b), b)
        for a, b in zip(one.co_consts, other.co_consts, strict=True)
    )


def _noticed_by(items: Sequence[pytest.Item], function: FunctionType, changed: FunctionType) -> str:
    """The test that notices the change, or nothing: run in a child, which is thrown away."""
    function.__code__, function.__defaults__ = changed.__code__, changed.__defaults__
    pairs = zip(items, [*items[1:], None], strict=True)
    return next((item.nodeid for item, following in pairs if _reports_failure(item, following)), "")


def _reports_failure(item: pytest.Item, following: pytest.Item | None) -> bool:
    from _pytest.runner import runtestprotocol  # what pytest's own loop calls; it has no public name

    return any(report.failed for report in runtestprotocol(item, log=False, nextitem=following))


def _forked(work: Callable[[], Any]) -> Any:
    """What `work` returns, done in a child process.

    Raises
    ------
    TimeoutError, ChildProcessError
        When the child takes too long or dies.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(work(), pipe)
            os._exit(0)
        finally:  # whatever happens, a child never goes on as if it were the parent
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        is_done = bool(select.select([pipe], [], [], _SECONDS)[0])
        if not is_done:
            os.kill(child, signal.SIGKILL)
        answer = pipe.read()
    status = os.waitpid(child, 0)[1]
    if not is_done:
        raise TimeoutError
    if status:
        raise ChildProcessError
    return pickle.loads(answer)  # noqa: S301 # written by our own child


def main() -> int:
    """Run the mutants of the modules named, all by default; 1 when a module scores less than enough."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Run the mutants of the rules.")
    parser.add_argument("modules", nargs="*", help=f"of {', '.join(TESTS)}; all by default")
    parser.add_argument("--only", default="", help="a pattern of mutants, such as '_moved#1[0-9]$'")
    arguments = parser.parse_args()
    modules = arguments.modules or list(TESTS)
    os.chdir(_ROOT)
    session = Session(modules, arguments.only)
    files = sorted({f"tests/billing/{test}.py" for name in modules for test in TESTS[name]})
    pytest.main(["-q", "-s", "--tb=native", "--assert=plain", "-p", "no:cacheprovider", *files], [session])
    echo(f"\n{'module':<16}{'mutants':>8}{'killed':>8}{'score':>8}")
    scores = []
    for name, counted in session.results.items():
        killed, mutants = counted["killed"], counted["killed"] + counted["survived"]
        scores.append(100 * killed / max(1, mutants))
        echo(f"{name:<16}{mutants:>8}{killed:>8}{scores[-1]:>7.1f}%")
    return 0 if scores and min(scores) >= ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main())

"""What the usage of one account and metric is expected to be, in plain Python: one series at a time, with fractions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor

MEAN, TREND, YEAR = "mean", "trend", "same_month_last_year"


def half_up(value: Fraction) -> int:
    return floor(value + Fraction(1, 2))


@dataclass(frozen=True)
class Series:
    """Whole units used in complete cycles, by the number of the month in which they ended."""

    values: Mapping[int, int]

    @property
    def places(self) -> list[int]:
        return sorted(self.values)

    def forecast(self, method: str, place: int, known: Sequence[int], step: int) -> int | None:
        """From the cycles of some places, for a later place; None where the method lacks cycles."""
        if method == MEAN:
            last = [self.values[each] for each in known[-3:]]
            return half_up(Fraction(sum(last), len(last))) if last else None
        if len(known) < 3:
            return None
        return self._trend(known, step) if method == TREND else self._year(place, known)

    def _trend(self, known: Sequence[int], step: int) -> int:
        ys = [self.values[each] for each in known[-6:]]
        xs = range(len(ys))
        mean_x, mean_y = Fraction(sum(xs), len(ys)), Fraction(sum(ys), len(ys))
        both = sum(((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)), Fraction(0))
        slope = both / sum(((x - mean_x) ** 2 for x in xs), Fraction(0))
        return half_up(max(Fraction(0), mean_y + slope * (len(ys) - 1 + step - mean_x)))

    def _year(self, place: int, known: Sequence[int]) -> int | None:
        before = place - 12
        while before > known[-1]:
            before -= 12
        pairs = [(each, each - 12) for each in known[-3:] if each - 12 in self.values]
        past = sum(self.values[year] for _, year in pairs)
        if before not in self.values or past == 0:
            return None
        level = min(100 * 10**6, sum(self.values[each] for each, _ in pairs) * 10**6 // past)
        return half_up(Fraction(self.values[before] * level, 10**6))

    def tested(self) -> list[tuple[int, dict[str, int | None]]]:
        """The last six cycles with what each method would have said of them."""
        found = []
        for index, place in enumerate(self.places):
            if index and index >= len(self.places) - 6:
                known = self.places[:index]
                found.append((self.values[place], {m: self.forecast(m, place, known, 1) for m in (MEAN, TREND, YEAR)}))
        return found

    def method(self) -> str:
        tests = self.tested()
        competes = [MEAN] + [m for m in (TREND, YEAR) if sum(said[m] is not None for _, said in tests) >= 2]
        common = [(actual, said) for actual, said in tests if all(said[m] is not None for m in competes)]
        errors = {m: sum(abs(actual - (said[m] or 0)) for actual, said in common) for m in competes}
        return min(competes, key=lambda m: (errors[m], (MEAN, TREND, YEAR).index(m)))

    def relative_errors(self) -> list[int]:
        method, found = self.method(), []
        for actual, said in self.tested():
            expected = said[method]
            if expected:
                found.append(min(100 * 10**6, max(-(10**6), (actual - expected) * 10**6 // expected)))
            elif expected == 0 and actual == 0:
                found.append(0)
        return sorted(found)

    def ahead(self, step: int) -> int:
        """What the cycle `step` cycles after the last one is expected to use."""
        place = self.places[-1] + step
        found = self.forecast(self.method(), place, self.places, step)
        return found if found is not None else self.forecast(MEAN, place, self.places, step) or 0

    def spread(self, of_all: Sequence[int]) -> tuple[int, int]:
        """Low and high in millionths, of the series' own errors where there are three; else of those of all."""
        own = self.relative_errors()
        errors = own if len(own) >= 3 else sorted(of_all)
        if not errors:
            return 0, 0
        return errors[-(-len(errors) // 10) - 1], errors[-(-9 * len(errors) // 10) - 1]

    def low_and_high(self, expected: int, of_all: Sequence[int]) -> tuple[int, int]:
        low, high = (half_up(Fraction(expected * (10**6 + each), 10**6)) for each in self.spread(of_all))
        return min(low, expected), max(high, expected)

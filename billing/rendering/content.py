"""Typed reader of a document's stored content."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal, DecimalException

from billing.rendering.errors import ContentError


class Fields:
    """An object of the stored content; each accessor names the place when a value has the wrong type."""

    def __init__(self, values: object, place: str = "") -> None:
        if not isinstance(values, Mapping):
            raise ContentError(f"{place or 'content'}: found {values!r}, expected an object")
        self._values: Mapping[str, object] = values
        self._place = place

    def place(self, key: str) -> str:
        return f"{self._place}.{key}" if self._place else key

    def replaced(self, values: Mapping[str, object]) -> "Fields":
        """A copy with other values of some keys."""
        return Fields({**self._values, **values}, self._place)

    def _value(self, key: str) -> object:
        if key not in self._values:
            raise ContentError(f"{self.place(key)}: found nothing, expected a value or null")
        return self._values[key]

    def has(self, key: str) -> bool:
        return self._value(key) is not None

    def holds(self, key: str) -> bool:
        """Whether there is a value; earlier versions did not store all keys."""
        return self._values.get(key) is not None

    def text(self, key: str) -> str:
        value = self._value(key)
        if not isinstance(value, str):
            raise ContentError(f"{self.place(key)}: found {value!r}, expected text")
        return value

    def optional_text(self, key: str) -> str:
        return self.text(key) if self.has(key) else ""

    def optional(self, key: str) -> str:
        """A text, or an empty one when there is none or the member is left out."""
        return self.text(key) if self.holds(key) else ""

    def flag(self, key: str) -> bool:
        value = self._value(key)
        if not isinstance(value, bool):
            raise ContentError(f"{self.place(key)}: found {value!r}, expected true or false")
        return value

    def integer(self, key: str) -> int:
        value = self._value(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 9:
            raise ContentError(f"{self.place(key)}: found {value!r}, expected a whole number from 0 to 9")
        return value

    def decimal(self, key: str) -> Decimal:
        text = self.text(key)
        try:
            value = Decimal(text)
        except DecimalException as error:
            raise ContentError(f"{self.place(key)}: found {text!r}, expected a decimal number") from error
        # Refuse more than 50 places: no amount or quantity needs them, and expanding 1e999999 would exhaust memory.
        if not value.is_finite() or len(value.as_tuple().digits) > 50 or abs(value.adjusted()) > 50:
            raise ContentError(
                f"{self.place(key)}: found {text[:60]!r}, expected a decimal number of at most 50 places"
            )
        return value

    def day(self, key: str) -> date:
        text = self.text(key)
        try:
            return date.fromisoformat(text)
        except ValueError as error:
            raise ContentError(f"{self.place(key)}: found {text!r}, expected a date YYYY-MM-DD") from error

    def fields(self, key: str) -> "Fields":
        return Fields(self._value(key), self.place(key))

    def _list(self, key: str) -> list[object]:
        value = self._value(key)
        if not isinstance(value, list):
            raise ContentError(f"{self.place(key)}: found {value!r}, expected a list")
        return value

    def rows(self, key: str) -> list["Fields"]:
        return [Fields(row, f"{self.place(key)}[{place}]") for place, row in enumerate(self._list(key))]

    def texts(self, key: str) -> list[str]:
        values = self._list(key)
        for place, value in enumerate(values):
            if not isinstance(value, str):
                raise ContentError(f"{self.place(key)}[{place}]: found {value!r}, expected text")
        return [str(value) for value in values]

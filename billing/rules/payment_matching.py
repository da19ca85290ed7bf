"""Match movements of a statement to what accounts owe: by number, then reference, then account and exact amount.

What is left of a known account is on account; the rest is listed with why.
"""

from typing import Final

import polars as pl

from billing.model.codes import RETURNED, PaymentStatus
from billing.model.columns import MONEY
from billing.rules.receivables import is_of_a_document, shown_number

_WORD: Final = r"[\p{L}\p{N}][\p{L}\p{N}\-_./]*"
# What is looked for in the middle of a text has letters and digits enough to be nothing else.
_LETTERS, _DIGITS = 2, 5
_SHORTEST_REFERENCE: Final = 3
_SHORTEST_ID: Final = 4
MATCHED: Final = pl.Schema(
    {"row": pl.Int64(), "account": pl.String(), "number": pl.String(), "how": pl.String(), "why": pl.String()}
)
"""A movement: the account and what it pays (null: on account) and how it was found, or why it was not."""


def match_payments(
    rows: pl.DataFrame, owed: pl.DataFrame, accounts: pl.DataFrame, known: pl.DataFrame, currency: str
) -> pl.DataFrame:
    """MATCHED, a row per movement, sorted.

    Parameters
    ----------
    rows
        Movements as `STATEMENT`, of payments only, with amounts.
    owed
        As `with_open_amounts`: number, account_id, issued_on, total, open; opening balances as documents.
    accounts
        account_id, name, email.
    known
        reference, account_id, document of payments: a refund goes to what its payment paid.
    currency
        Of the documents.
    """
    ours = rows.filter(pl.col("currency") == currency)
    named = _named(ours, owed)
    whose = _accounts_of(rows, accounts, named)
    exact = _exact(ours, whose, owed, named)
    found_here = pl.concat([named.select(exact.columns), exact])
    sure = _first_of(rows, named, _linked(ours, known, found_here))
    found = (
        rows.select("row", "currency", "status", "payer", "text", "amount")
        .join(sure, on="row", how="left", maintain_order="left")
        .join(exact.select("row", exact_account="account", exact_number="number"), on="row", how="left")
        .join(whose, on="row", how="left")
        .sort("row")
    )
    has_currency = (pl.col("currency") == currency).fill_null(value=False)
    is_sure, is_exact = pl.col("how").is_not_null(), pl.col("exact_account").is_not_null()
    is_known = pl.col("whose").is_not_null() & pl.col("is_strong")
    # Of two customers: whose money it is has to be decided by somebody.
    contradicts = is_sure & is_known & (pl.col("whose") != pl.col("account"))
    matches = has_currency & ~pl.col("several").fill_null(value=False) & ~contradicts.fill_null(value=False)
    return found.select(
        "row",
        account=pl.when(matches).then(
            pl.coalesce("account", pl.when(is_exact).then("exact_account"), pl.when(is_known).then("whose"))
        ),
        number=pl.when(matches).then(pl.when(is_sure).then("number").when(is_exact).then("exact_number")),
        how=pl.when(matches).then(
            pl.when(is_sure)
            .then("how")
            .when(is_exact)
            .then(pl.lit("account and amount"))
            .when(is_known)
            .then(pl.lit("on account"))
        ),
        why=pl.when(~has_currency)
        .then(pl.format("currency: found {}, expected {}", pl.col("currency").fill_null("none"), pl.lit(currency)))
        .when(pl.col("several").fill_null(value=False))
        .then(pl.lit("it names documents of several accounts"))
        .when(contradicts.fill_null(value=False))
        .then(pl.format("it is of account {} and names a document of account {}", "whose", "account"))
        .when(~is_sure & ~is_exact & ~is_known)
        .then(_unknown()),
    ).select(pl.col(name).cast(dtype) for name, dtype in MATCHED.items())


def _unknown() -> pl.Expr:
    return pl.concat_str(
        pl.lit("found no number, reference or account in it"),
        pl.when(pl.col("whose").is_not_null())
        .then(pl.format(", and account {} owes no document of this amount", "whose"))
        .otherwise(pl.lit("")),
        pl.when(pl.col("payer").is_not_null()).then(pl.format("; from {}", "payer")).otherwise(pl.lit("")),
    )


def _named(rows: pl.DataFrame, owed: pl.DataFrame) -> pl.DataFrame:
    """row, account, number, how, several: of the documents and references that movements name.

    A number goes before a reference. A movement that names several documents of an account is on account, unless one of
    them is of its amount. A name without letters counts in free text only where the amount is right, too.
    """
    names = owed.select(
        "number",
        "open",
        "due",
        account="account_id",
        is_document=is_of_a_document("number"),
        token=_plain_text(shown_number("number")),
    ).filter(pl.col("is_document") | (pl.col("token").str.len_chars() >= _SHORTEST_REFERENCE))
    is_named = pl.col("token").str.contains(r"\p{L}") | pl.col("is_explicit")
    is_amount = (pl.col("open") == pl.col("amount")) | (pl.col("due") == pl.col("amount"))
    # The same reference may be that of two accounts: the movement's own counts.
    is_own = pl.col("account_id").is_null() | (pl.col("account_id") == pl.col("account"))
    found = _tokens(rows, names["token"]).join(names, on="token").filter(is_named | is_amount)
    documents, references = found.filter("is_document"), found.filter(~pl.col("is_document") & is_own)
    both = pl.concat([documents, references.join(documents.select("row").unique(), on="row", how="anti")])
    by_row = (
        both.sort("row", "number")
        .unique(["row", "number"], maintain_order=True)
        .group_by("row", maintain_order=True)
        .agg(
            accounts=pl.col("account").n_unique(),
            account=pl.col("account").first(),
            numbers=pl.len(),
            only=pl.col("number").first(),
            exact=pl.col("number").filter(pl.col("open") == pl.col("amount")).first(),
            exacts=(pl.col("open") == pl.col("amount")).sum(),
            is_document=pl.col("is_document").any(),
        )
    )
    return by_row.select(
        "row",
        account=pl.when(pl.col("accounts") == 1).then("account"),
        number=pl.when(pl.col("numbers") == 1).then("only").when(pl.col("exacts") == 1).then("exact"),
        how=pl.when(pl.col("accounts") == 1).then(
            pl.when("is_document").then(pl.lit("number")).otherwise(pl.lit("reference"))
        ),
        several=pl.col("accounts") > 1,
    )


def _tokens(rows: pl.DataFrame, names: pl.Series) -> pl.DataFrame:
    """row, amount, account_id, token, is_explicit: words of the texts, and what has the shape of a number in them."""
    texts = pl.concat(
        [
            rows.select("row", "amount", "account_id", text=column, is_explicit=pl.lit(is_explicit))
            for column, is_explicit in (("document", True), ("text", False))
        ]
    ).drop_nulls("text")
    whole = texts.with_columns(token=_plain("text"))
    words = texts.with_columns(token=pl.col("text").str.extract_all(_WORD)).explode("token", empty_as_null=False)
    # A bank may set blanks into a number, or leave out its punctuation.
    shapes = names.str.replace_all(r"\d", r"\d").unique().sort().to_list()
    parts = [
        whole.with_columns(token=pl.col("token").str.extract_all(shape)).explode("token", empty_as_null=False)
        for shape in shapes
        if shape.count(r"\d") >= _DIGITS and len(shape.replace(r"\d", "")) >= _LETTERS
    ]
    found = pl.concat([whole, words.drop_nulls("token").with_columns(token=_plain("token")), *parts])
    return found.drop("text").drop_nulls("token").filter(pl.col("token") != "").unique()


def _plain(column: str) -> pl.Expr:
    return _plain_text(pl.col(column))


def _plain_text(text: pl.Expr) -> pl.Expr:
    """Text without case, blanks and punctuation: banks change them."""
    return text.str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]", "")


def _linked(rows: pl.DataFrame, known: pl.DataFrame, named: pl.DataFrame) -> pl.DataFrame:
    """row, account, number, how, several: of movements that have a charge in common with a payment.

    Parameters
    ----------
    named
        row, account, number: of the movements that were matched.
    """
    earlier = known.filter(pl.col("reference").is_not_null()).select(
        charge="reference", account="account_id", number="document"
    )
    paid = rows.filter(pl.col("status") == PaymentStatus.SUCCEEDED).join(named, on="row")
    own = paid.select("charge", "account", "number")
    both = pl.concat([earlier, own]).drop_nulls("charge").unique("charge", keep="first", maintain_order=True)
    return (
        rows.filter(pl.col("status").is_in([each.value for each in RETURNED]))
        .join(both, on="charge")
        .select("row", "account", "number", how=pl.lit("payment"), several=pl.lit(False))
    )


def _first_of(rows: pl.DataFrame, *found: pl.DataFrame) -> pl.DataFrame:
    """The first match of each movement."""
    first = pl.concat(found).unique("row", keep="first", maintain_order=True)
    return first.join(rows.select("row"), on="row", how="semi")


def _accounts_of(rows: pl.DataFrame, accounts: pl.DataFrame, named: pl.DataFrame) -> pl.DataFrame:
    """row, whose, is_strong: by id, or, less surely, by an email or a name that one alone has, or an id in the text."""
    by_id = rows.join(accounts.select(account_id="account_id"), on="account_id").select(
        "row", whose="account_id", is_strong=pl.lit(True)
    )
    weak = [
        rows.select("row", key=_plain(theirs))
        .filter(pl.col("key") != "")
        .join(
            accounts.select(key=_plain(ours), whose="account_id")
            .filter(pl.col("key") != "")
            .filter(pl.col("key").is_unique()),
            on="key",
        )
        for theirs, ours in (("email", "email"), ("payer", "name"))
    ]
    # The number of a customer in the text; a text with two of them says nothing.
    ids = accounts.select(token=_plain("account_id"), whose="account_id").filter(
        (pl.col("token").str.len_chars() >= _SHORTEST_ID) & pl.col("token").is_unique()
    )
    words = _tokens(rows, pl.Series(dtype=pl.String)).join(ids, on="token").select("row", "whose").unique()
    weak.append(words.filter(pl.col("row").is_unique()))
    less = [each.select("row", "whose", is_strong=pl.lit(False)) for each in weak]
    return pl.concat([by_id, *less]).unique("row", keep="first", maintain_order=True)


def _exact(rows: pl.DataFrame, whose: pl.DataFrame, owed: pl.DataFrame, sure: pl.DataFrame) -> pl.DataFrame:
    """row, account, number: the k-th movement of an amount pays the k-th open document of that amount."""
    paid = rows.join(sure.drop_nulls("number"), on="row").filter(pl.col("status") == PaymentStatus.SUCCEEDED)
    taken = paid.group_by("number").agg(taken=pl.col("amount").sum())
    left = (
        owed.join(taken, on="number", how="left")
        .with_columns(left=(pl.col("open") - pl.col("taken").fill_null(pl.lit(0).cast(MONEY))).cast(MONEY))
        .filter(pl.col("left") > 0)
        .sort("issued_on", "number")
        .select("number", account="account_id", amount="left")
        .with_columns(place=pl.int_range(pl.len()).over("account", "amount"))
    )
    open_rows = (
        rows.filter(pl.col("status").is_in([PaymentStatus.SUCCEEDED.value, PaymentStatus.FAILED.value]))
        .join(sure, on="row", how="anti")
        .join(whose.rename({"whose": "account"}), on="row")
        .sort("at", "row")
        .with_columns(place=pl.int_range(pl.len()).over("account", "amount"))
    )
    return open_rows.join(left, on=["account", "amount", "place"]).select("row", "account", "number")

"""From gzipped usage logs to what is owed for overage: the same work in Overage and in what people would use instead.

Each peer reads the same JSON lines, judges every row by the same rules, keeps the text of what it sets aside, counts
each (source, id) once over the whole month, writes the events that count, and measures and rates usage. All must come
to the same answer: money by metric, rows, counted events, duplicates, rejects by reason and the rejects' texts.
"""

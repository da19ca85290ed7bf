"""Documents: drafts, their lines, taxes, content and notes."""

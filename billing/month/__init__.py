"""A month step by step: compute, draft, issue, correct, draw; and what it was made from."""

"""Raw logs as they are: the records of a delivered file become events by what its source says (rule 39)."""

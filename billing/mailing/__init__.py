"""Mails: composing them, and handing them to a mail server."""

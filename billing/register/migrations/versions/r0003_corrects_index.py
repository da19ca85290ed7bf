"""An index for the documents that others correct.

A database that keeps references asks for each new document which rows refer to it: without an index it reads all
documents each time, and issuing takes time in proportion to their square.
"""

from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    op.create_index("ix_documents_corrects", "documents", ["corrects"], if_not_exists=True)

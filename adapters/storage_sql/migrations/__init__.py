"""The schema's history. A published revision is never edited, only followed by another.

On SQLite a revision adds tables, columns and indexes; it does not rebuild a table that others refer to.
"""

"""One module a revision; `adapters.storage_sql.schema` finds them here."""

"""One module for each revision; `adapters.storage_sql.schema` finds them here."""

"""Any number of processes on one PostgreSQL database, asked from threads; `config` needs no driver."""

"""Any number of processes on one PostgreSQL database, called from threads; `config` loads no driver."""

"""The command line, and the one place that sees every adapter: it puts the server together."""

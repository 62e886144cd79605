"""Compares this server with its peers on one machine; the servers are measured in turn."""

"""A load generator on one core: plain sockets, one epoll loop, no client library."""

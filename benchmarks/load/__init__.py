"""A load generator on one core: sock sockets, one epoll loop, no client library."""

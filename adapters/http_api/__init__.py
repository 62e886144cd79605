"""The HTTP API as values: a request in, an answer out, over `adapters.runtime`, without any framework.

A server or a framework binds it in three steps: it makes an `HttpRequest` of what it has received, finds the
`Route` of the method and the path, and sends the `HttpAnswer` that the route returns.
"""

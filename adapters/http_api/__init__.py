"""The HTTP API as values: a request in, a response out, over `adapters.runtime`, without any framework.

The seam for a server or a framework is `api.HttpApi`, with the two values of `exchange`:

- It makes an `HttpRequest` of a request's head: the path without percent-escapes, the header fields by name
  in lower case, the peer's address.
- `await api.respond(head, read_body, raw_path=...)` is the `HttpResponse` to any request: endpoints,
  preflights, OPTIONS, redirects, 404 and 405, with the CORS fields and X-Request-ID. `read_body(most_bytes)`
  is called only if the head does not decide; it returns None as soon as the body is larger, and reads no
  more. The binding adds Content-Length and Date, sends no body to a HEAD, and lets a cancellation pass
  through.
- A server that has whole requests asks `api.route(method, path)` instead: a `Route` responds to one by
  `respond`, states by `refusal` what the head alone decides, and bounds the body by `body_bytes`.
- The binding's lifespan runs `Messaging.keep_house`; the socket `/ws` is no part of this room.

A new endpoint is a command with a view (`views`), a declaration (`routes/`), and a place in
`routes.ENDPOINTS`.
"""

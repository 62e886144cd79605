"""A request that the listener refuses itself, because it cannot or must not reach the application."""

Headers = list[tuple[bytes, bytes]]

NOT_WELL_FORMED = "The request is not well-formed HTTP/1.1."


class RefusedRequest(Exception):
    """The listener responds to this request itself, then closes the connection."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        code: str = "bad_request",
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.code = code
        self.headers = headers

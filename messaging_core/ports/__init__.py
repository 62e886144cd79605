"""The domain's interfaces: storage, the bus between processes, signatures, e-mail addresses, passwords.

These protocols fix order, atomicity and repetition; `messaging_core.testing` ships the suites that
every storage and every bus must pass. A `Reader` and a `Transaction` are the sum of what they know by topic.
"""

from messaging_core.ports.accounts import AccountReader, AccountTransaction
from messaging_core.ports.bus import Bus
from messaging_core.ports.chats import ChatReader, ChatTransaction
from messaging_core.ports.log import LogReader
from messaging_core.ports.messages import MessageReader, MessageTransaction
from messaging_core.ports.presence import PresenceReader, PresenceTransaction
from messaging_core.ports.responses import ResponseReader, ResponseTransaction
from messaging_core.ports.security import (
    EmailMalformed,
    EmailParser,
    PasswordHasher,
    PasswordHasherBusy,
    TokenSigner,
)
from messaging_core.ports.storage import (
    FORGOTTEN_AT_ONCE,
    OutcomeUnknown,
    Reader,
    Storage,
    StorageUnavailable,
    Transaction,
)

__all__ = (
    "FORGOTTEN_AT_ONCE",
    "AccountReader",
    "AccountTransaction",
    "Bus",
    "ChatReader",
    "ChatTransaction",
    "EmailMalformed",
    "EmailParser",
    "LogReader",
    "MessageReader",
    "MessageTransaction",
    "OutcomeUnknown",
    "PasswordHasher",
    "PasswordHasherBusy",
    "PresenceReader",
    "PresenceTransaction",
    "Reader",
    "ResponseReader",
    "ResponseTransaction",
    "Storage",
    "StorageUnavailable",
    "TokenSigner",
    "Transaction",
)

"""Words that open the settings page once, and the keys its windows hold until they end."""

from __future__ import annotations

import contextlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

TOKEN_LIFE: Final = 600.0  # seconds in which an address can be used, once
LIFE: Final = 12 * 3600.0  # seconds after which a window has to sign in again
IDLE: Final = 600.0  # seconds a key lives while no request of its window is under way
LINGER: Final = 15.0  # seconds the door waits for a page that is being loaded again
MAX_TOKENS: Final = 16
MAX_SESSIONS: Final = 32

T = TypeVar("T")


def boottime() -> float:
    """Seconds that go on while the machine sleeps, where the system has such a clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclass(eq=False)
class Session:
    """One window that signed in, good at the origin where it did and nowhere else."""

    key: str
    origin: str
    born: float
    seen: float
    under_way: list[Callable[[], None]] = field(default_factory=list)  # each cuts one request


class Sessions:
    """Sessions of the page's windows. Belongs to the control thread."""

    def __init__(self, clock: Callable[[], float] = boottime) -> None:
        self._clock = clock
        self._tokens: dict[str, float] = {}  # token -> when it expires
        self._sessions: list[Session] = []
        self._left = float("-inf")  # when somebody was here last

    def token(self) -> str:
        """A new word that signs in one window, once."""
        self.expire()
        while len(self._tokens) >= MAX_TOKENS:
            del self._tokens[next(iter(self._tokens))]
        word = secrets.token_urlsafe(32)
        self._tokens[word] = self._clock() + TOKEN_LIFE
        return word

    def awaits(self, word: str) -> bool:
        """Tell if a word of ours can still be used."""
        return self._tokens.get(word, float("-inf")) > self._clock()

    def sign_in(self, word: str, origin: str) -> str | None:
        """Trade a word for a key that is good at `origin`; None if the word is not."""
        self.expire()
        match = _equal(word, self._tokens, str)
        if match is None:
            return None
        del self._tokens[match]
        for oldest in self._sessions[: -(MAX_SESSIONS - 1)]:
            self._end(oldest)
        now = self._clock()
        session = Session(secrets.token_urlsafe(32), origin, now, now)
        self._sessions.append(session)
        self._left = now
        return session.key

    def find(self, key: str, origin: str) -> Session | None:
        """The session that `key` belongs to, if it came from `origin` and has not ended."""
        self.expire()
        session = _equal(key, self._sessions, lambda one: one.key)
        return session if session is not None and session.origin == origin else None

    @contextlib.contextmanager
    def visit(self, session: Session, cut: Callable[[], None]) -> Iterator[None]:
        """Count a request as under way; `cut` ends it at once if its session ends meanwhile."""
        session.under_way.append(cut)
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):  # the session has ended
                session.under_way.remove(cut)
            session.seen = self._left = self._clock()

    @property
    def deserted(self) -> bool:
        """True if nobody is here, nobody was a moment ago, and no word is out that may be used."""
        here = self.visited
        return not (here or self._tokens or self._clock() - self._left <= LINGER)

    @property
    def visited(self) -> bool:
        """True if a window is here: each has a stream of the status under way."""
        self.expire()
        return any(session.under_way for session in self._sessions)

    def expire(self) -> None:
        """End what has lived too long."""
        now = self._clock()
        self._tokens = {word: end for word, end in self._tokens.items() if end > now}
        for session in list(self._sessions):
            idle = not session.under_way and now - session.seen > IDLE
            if idle or now - session.born > LIFE:
                self._end(session)

    def end_all(self) -> None:
        """Take back every word and key, and cut every request under way."""
        self._tokens.clear()
        for session in list(self._sessions):
            self._end(session)
        self._left = float("-inf")

    def _end(self, session: Session) -> None:
        self._sessions.remove(session)
        cuts, session.under_way = session.under_way, []
        for cut in cuts:
            cut()


def _equal(given: str, known: Iterable[T], secret: Callable[[T], str]) -> T | None:
    """The one of `known` whose secret is `given`, compared in a time that tells nothing."""
    raw = given.encode(errors="replace")
    found = [one for one in known if hmac.compare_digest(raw, secret(one).encode())]
    return found[0] if found else None

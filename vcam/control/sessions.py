"""Words that open the settings page once, keys its windows hold, tickets that bring them back."""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

from vcam.system.systemd import boottime

TOKEN_LIFE: Final = 600.0  # seconds in which an address can be used, once
LIFE: Final = 12 * 3600.0  # seconds after which a window has to sign in again
IDLE: Final = 600.0  # seconds a key lives while no request of its window is under way
# Seconds a new daemon waits for windows to return: a hidden one's clock ticks once a minute.
RETURN: Final = 90.0
LINGER: Final = 15.0  # seconds the door waits for a page that is being loaded again
MAX_TOKENS: Final = 16
MAX_SESSIONS: Final = 32

T = TypeVar("T")


@dataclass(eq=False)
class Session:
    """One window that signed in, good at the origin where it did and nowhere else."""

    key: str
    origin: str
    born: float
    seen: float
    under_way: list[Callable[[], None]] = field(default_factory=list)  # each cuts one request
    ticket: str = ""  # number of the one that brings it back to another daemon


class Sessions:
    """Sessions of the page's windows. Belongs to the control thread."""

    def __init__(self, clock: Callable[[], float] = boottime) -> None:
        self._clock = clock
        self._tokens: dict[str, float] = {}  # token -> when it expires
        self._sessions: list[Session] = []
        self._left = float("-inf")  # when somebody was here last
        self._awaited = float("-inf")  # until when windows of the daemon before may come back
        self.tickets = Tickets(clock)

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

    def await_returns(self) -> None:
        """Keep the door open for windows of the daemon before."""
        self._awaited = self._clock() + RETURN

    def come_back(self, number: str, origin: str, proof: str) -> str | None:
        """Trade a ticket and its proof for a new key; None if they are not good."""
        born = self.tickets.redeem(number, origin, proof)
        if born is None:
            return None
        now = self._clock()
        session = Session(secrets.token_urlsafe(32), origin, born, now)
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
        here, now = self.visited, self._clock()
        awaited = now < self._awaited and len(self.tickets) > 0
        return not (here or self._tokens or awaited or now - self._left <= LINGER)

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
        self.tickets.forget()
        self._left = self._awaited = float("-inf")

    def _end(self, session: Session) -> None:
        self._sessions.remove(session)
        self.tickets.void(session)
        cuts, session.under_way = session.under_way, []
        for cut in cuts:
            cut()


def _equal(given: str, known: Iterable[T], secret: Callable[[T], str]) -> T | None:
    """The one of `known` whose secret is `given`, compared in a time that tells nothing."""
    raw = given.encode(errors="replace")
    found = [one for one in known if hmac.compare_digest(raw, secret(one).encode())]
    return found[0] if found else None


class Tickets:
    """Returns of open windows to a daemon that was started anew. Belongs to the control thread.

    A window gets a ticket: a number and a secret that it keeps out of the browser's storage and
    never sends. Whoever answers at its port later has to prove that it knows the secret before the
    window proves the same; only then a new key is given. Each proof names the origin and two fresh
    numbers, so that it is worth nothing at another port or another time, and each ticket brings one
    window back once. Keys themselves never outlive the daemon.
    """

    def __init__(self, clock: Callable[[], float] = boottime) -> None:
        self._clock = clock
        self._tickets: dict[str, _Ticket] = {}
        self.changed = False  # since they were written down

    def __len__(self) -> int:
        self._expire()
        return len(self._tickets)

    def issue(self, session: Session) -> tuple[str, str]:
        """Number and secret of a ticket for a window; the one it had before is void."""
        self.void(session)
        while len(self._tickets) >= MAX_SESSIONS:
            del self._tickets[next(iter(self._tickets))]
        number, secret = secrets.token_urlsafe(16), secrets.token_urlsafe(32)
        self._tickets[number] = _Ticket(secret, session.origin, session.born)
        session.ticket, self.changed = number, True
        return number, secret

    def void(self, session: Session) -> None:
        """Take back a window's ticket."""
        if self._tickets.pop(session.ticket, None) is not None:
            self.changed = True

    def challenge(self, number: str, origin: str, theirs: str) -> tuple[str, str] | None:
        """A fresh number and the daemon's proof for a window that asks `theirs`; None: unknown."""
        self._expire()
        ticket = self._tickets.get(number)
        if ticket is None or ticket.origin != origin:
            return None
        ticket.asked = secrets.token_urlsafe(32), theirs
        return ticket.asked[0], ticket.proof("daemon", *ticket.asked)

    def redeem(self, number: str, origin: str, proof: str) -> float | None:
        """Spend a ticket for a window's proof: when its window signed in first, None if it fails.

        A challenge is good for one try.
        """
        self._expire()
        ticket = self._tickets.get(number)
        if ticket is None or ticket.origin != origin or ticket.asked is None:
            return None
        asked, ticket.asked = ticket.asked, None
        expected = ticket.proof("page", *asked)
        if not hmac.compare_digest(expected.encode(), proof.encode(errors="replace")):
            return None
        del self._tickets[number]
        self.changed = True
        return ticket.born

    def written(self) -> str:
        """Everything as text, for a file that this user alone can read."""
        self._expire()
        self.changed = False
        now, wall = self._clock(), time.time()
        tickets = [
            {"number": number, "secret": t.secret, "origin": t.origin, "ends": wall + t.left(now)}
            for number, t in self._tickets.items()
        ]
        return json.dumps({"tickets": tickets})

    def read(self, text: str) -> str | None:
        """Take up what another daemon wrote; the origin its windows are at, None if there are none.

        What is damaged or too old is left out.
        """
        now, wall = self._clock(), time.time()
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            for told in json.loads(text)["tickets"][:MAX_SESSIONS]:
                left = min(float(told["ends"]) - wall, LIFE)
                if left > 0:
                    ticket = _Ticket(str(told["secret"]), str(told["origin"]), now + left - LIFE)
                    self._tickets[str(told["number"])] = ticket
        return next((ticket.origin for ticket in self._tickets.values()), None)

    def forget(self) -> None:
        """Void them all."""
        self.changed = self.changed or bool(self._tickets)
        self._tickets.clear()

    def _expire(self) -> None:
        now = self._clock()
        for number, ticket in list(self._tickets.items()):
            if ticket.left(now) <= 0:
                del self._tickets[number]
                self.changed = True


@dataclass(eq=False)
class _Ticket:
    """One window's way back."""

    secret: str
    origin: str
    born: float  # when its window signed in, on the sessions' clock
    asked: tuple[str, str] | None = None  # numbers of the challenge that is out: ours, theirs

    def left(self, now: float) -> float:
        return self.born + LIFE - now

    def proof(self, by: str, ours: str, theirs: str) -> str:
        text = "\n".join((by, self.origin, ours, theirs))
        return hmac.new(self.secret.encode(), text.encode(), "sha256").hexdigest()

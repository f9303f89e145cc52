"""Which credentials the relay accepts: its own random ones, and those of the upstream's user.

The relay's own credentials cannot be guessed, so they are checked at any time. The upstream's password may be a weak
one, and Neo4j protects it: after three wrong attempts it refuses all further ones for five seconds. The relay does the
same, with the same failure; otherwise passwords could be guessed at the relay. In addition, each wrong attempt is
answered later than the one before it, up to a bound, so that guessing does not take up a processor. However many guess
at once, only so many get an answer in a second, and only so many may wait for one.
"""

import hmac
from typing import Any

from worker_init.client import Verdict
from worker_init.errors import UpstreamFailure
from worker_init.targets import Credentials, Target

# Neo4j's own defaults: dbms.security.auth_max_failed_attempts, dbms.security.auth_lock_time.
_MOST_WRONG = 3
_LOCK_SECONDS = 5.0
_FIRST_DELAY = 0.1
_LONGEST_DELAY = 5.0
# A logon takes the host about a millisecond. With these values, wrong logons take a fiftieth of a processor.
MOST_A_SECOND = 20
MOST_DELAYED = 400

_DESCRIPTION = ("error: syntax error or access rule violation - permission/access denied. "
                "Access denied, see the security logs for details.")


def _failure(code: str, message: str) -> UpstreamFailure:
    return UpstreamFailure(f"Neo.ClientError.Security.{code}", message, gql_status="42NFF", description=_DESCRIPTION,
                           diagnostic_record={"_classification": "CLIENT_ERROR"})


UNAUTHORIZED = _failure("Unauthorized", "The client is unauthorized due to authentication failure.")
RATE_LIMIT = _failure("AuthenticationRateLimit",
                      "The client has provided incorrect authentication details too many times in a row.")


class Door:
    """One relay's credentials, and how often wrong ones were tried. An upstream without a password adds none."""

    def __init__(self, local: Credentials, target: Target) -> None:
        self._local = _one(local.username, local.password)
        self._upstream = _one(target.username, target.password) if target.password else None
        self._wrong = 0
        self._since = float("-inf")
        # When the last of the delayed answers is due.
        self._answered_at = float("-inf")

    def judge(self, token: dict[str, Any], now: float) -> Verdict:
        """Return the judgement on credentials at the time ``now`` (in seconds)."""
        if now - self._since >= _LOCK_SECONDS:
            self._wrong = 0
        is_basic = token.get("scheme") == "basic"
        given = _one(token.get("principal"), token.get("credentials"))
        if is_basic and hmac.compare_digest(given, self._local):
            return Verdict(None)
        is_locked = self._wrong >= _MOST_WRONG
        if self._upstream and is_basic and not is_locked and hmac.compare_digest(given, self._upstream):
            self._wrong = 0
            return Verdict(None)
        self._wrong += 1
        self._since = now
        if self._wrong <= _MOST_WRONG:
            return Verdict(UNAUTHORIZED)
        answered_at = max(now + self._delay(), self._answered_at + 1 / MOST_A_SECOND)
        if answered_at > now + MOST_DELAYED / MOST_A_SECOND:
            return Verdict(RATE_LIMIT, why=f"wrong credentials while {MOST_DELAYED} others waited for their answer")
        self._answered_at = answered_at
        return Verdict(RATE_LIMIT, answered_at - now)

    def _delay(self) -> float:
        # The count of wrong attempts has no bound, so the exponent gets one: more than the longest delay needs.
        return min(_FIRST_DELAY * 2.0 ** min(self._wrong - _MOST_WRONG - 1, 16), _LONGEST_DELAY)


def _one(name: Any, password: Any) -> bytes:
    return f"{name}\0{password}".encode(errors="surrogatepass")

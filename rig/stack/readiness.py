"""Waits until all services serve, at the same time."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from rig.errors import Hung
from rig.stack.service import Check


def until_all_serve(checks: Mapping[str, Check], *, limit: float, every: float, log_command: str,
                    ready: Callable[[str], None]) -> None:
    """Ask each service every ``every`` seconds until it serves, then call ``ready`` with its name.

    Exceptions of a check are raised at once. Raises Hung after ``limit`` seconds; ``log_command`` shows a service's
    log, with the service's name for ``{}``.
    """
    def wait_for(name: str) -> None:
        asking = Retrying(retry=retry_if_result(bool), stop=stop_after_delay(limit), wait=wait_fixed(every))
        try:
            asking(checks[name])
        except RetryError as error:
            raise Hung(f"{name} does not serve after {limit:.0f} s: {error.last_attempt.result()}",
                       f"`{log_command.format(name)}` shows its log; RIG_START_TIMEOUT gives it more time") from error
        ready(name)

    pool = ThreadPoolExecutor(max(1, len(checks)))
    try:
        for ended in as_completed([pool.submit(wait_for, name) for name in checks]):
            ended.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)

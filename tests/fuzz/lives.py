"""Random lives of a relay, for as long as they are given: ``python -m tests.fuzz.lives --seconds 3600``.

Each is a seed: ``--seed N --lives 1`` has it once more.
"""

import argparse
import random
import sys
import time
import traceback
from collections import Counter

from tests.worker_init.pure.relay_life import Life
from worker_init.arguments import real, whole


def main() -> int:
    """Print what was tried, and each finding with its seed; exit code 1 if there was one."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.lives", description="Random lives of a relay.")
    parser.add_argument("--seconds", type=real(0.1), default=60.0, help="how long (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="the first life (default: 1)")
    parser.add_argument("--lives", type=whole(1), default=10**9, help="how many at most")
    parser.add_argument("--steps", type=whole(1), default=200,
                        help="what happens in each, before all come to their end")
    arguments = parser.parse_args()
    start, seed, found = time.monotonic(), arguments.seed, 0
    counts: Counter[str] = Counter()
    while time.monotonic() - start < arguments.seconds and seed < arguments.seed + arguments.lives:
        life = Life(random.Random(seed))
        try:
            life.live(arguments.steps)
        except Exception:
            found += 1
            print(f"life {seed}, step {life.steps}:\n{traceback.format_exc()}", flush=True)
        counts += Counter({"lives": 1, "inputs": life.world.inputs, "clients": len(life.world.peers),
                           "connections": len(life.world.servers), **life.world.counts})
        seed += 1
    print(f"{time.monotonic() - start:.0f} s, {found} findings")
    print("\n".join(f"{name:18} {count:12,}" for name, count in counts.most_common()))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

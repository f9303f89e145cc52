"""Bytes of any kind for as long as they are given: ``python -m tests.fuzz.anything client --seconds 3600``.

With ``atheris`` installed the inputs are led by what they reach in the package; without it they are drawn from the
corpus and changed at random: the same ones for the same seed. ``all`` gives each target as much time. ``--corpus`` is a
folder that atheris reads and writes; what is worth keeping goes into ``tests/worker_init/pure/corpus.txt``:
``--keep FOLDER`` prints its lines.
"""

import argparse
import importlib.util
import random
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from worker_init.arguments import real, whole

CORPUS = Path(__file__).resolve().parents[1] / "worker_init" / "pure" / "corpus.txt"
# Bytes that mean something somewhere; a random byte becomes one of them.
_MEANT = bytes.fromhex("00010281829091a1a2b0b1b3c0c1c3c8cccdd0d4d6d8e0f07f0f10113f6670717e7f12")
_TO_MEANT = bytes(_MEANT[byte % len(_MEANT)] for byte in range(256))
_CHANGES, _SIZES, _REPLACED = (1, 1, 2, 5, 30), (1, 1, 2, 8, 1, 20), (0, 0, 1, 20)
_TARGETS = ("handshake", "framing", "packstream", "client", "extras")
_BATCH = 1000
_SAID_EVERY_SECONDS = 60.0
_MOST_PRINTED = 20


def known(target: str) -> list[bytes]:
    """Return the corpus of a target."""
    lines = (line.split() for line in CORPUS.read_text().splitlines())
    return [bytes.fromhex("".join(line[1:])) for line in lines if line[0] == target]


def changed(rnd: random.Random, inputs: list[bytes]) -> bytes:
    """Return one of the inputs with something changed, or something new."""
    # Hundreds of thousands of these are made in a minute: random() is by far the cheapest draw.
    draw = rnd.random
    data = bytearray(inputs[int(draw() * len(inputs))] if inputs and draw() < 0.8 else b"")
    for _ in range(_CHANGES[int(draw() * 5)]):
        at = int(draw() * (len(data) + 1))
        piece = rnd.randbytes(_SIZES[int(draw() * 6)])
        if draw() < 0.7:
            piece = piece.translate(_TO_MEANT)
        data[at:at + min(_REPLACED[int(draw() * 4)], len(piece))] = piece
    return bytes(data)


class AtRandom:
    """Inputs at random for some targets, each for as long, and what came of them."""

    def __init__(self, targets: dict[str, Callable[[bytes], None]], seed: int) -> None:
        self.inputs = dict.fromkeys(targets, 0)
        self.findings = dict.fromkeys(targets, 0)
        self._targets = targets
        self._spent = dict.fromkeys(targets, 0.0)
        self._random = {name: random.Random(f"{name} {seed}") for name in targets}
        self._corpus = {name: known(name) for name in targets}

    def batch(self, name: str) -> None:
        """Try a number of inputs of one target; print the findings, unless there are many."""
        start = time.process_time()
        target, rnd, corpus = self._targets[name], self._random[name], self._corpus[name]
        for data in [changed(rnd, corpus) for _ in range(_BATCH)]:
            try:
                target(data)
            except Exception:
                self.findings[name] += 1
                if self.findings[name] <= _MOST_PRINTED:
                    print(f"{name} {data.hex()}\n{traceback.format_exc()}", flush=True)
        self.inputs[name] += _BATCH
        self._spent[name] += time.process_time() - start

    def run(self, seconds: float, inputs: int) -> None:
        """Go on for so long, or until there were so many inputs of all targets together."""
        start = said = time.monotonic()
        while True:
            self.batch(min(self._spent, key=self._spent.__getitem__))
            now = time.monotonic()
            is_over = now - start >= seconds or sum(self.inputs.values()) >= inputs
            if is_over or now - said >= _SAID_EVERY_SECONDS:
                said = now
                print(f"{now - start:.0f} s ({time.process_time():.0f} s of processor time): {self}", flush=True)
            if is_over:
                return

    def __str__(self) -> str:
        each = ", ".join(f"{name} {count:,}" for name, count in self.inputs.items())
        return f"{sum(self.inputs.values()):,} inputs ({each}), {sum(self.findings.values())} findings"


def led(name: str, seconds: float, corpus: str | None) -> None:
    """Let atheris lead the inputs. It prints its figures itself, and ends the process at a finding."""
    import atheris
    with atheris.instrument_imports(include=["worker_init"]):
        from tests.worker_init.pure.byte_targets import TARGETS
    options = [f"-max_total_time={seconds:.0f}", "-max_len=1024", "-print_final_stats=1", "-verbosity=1"]
    atheris.Setup([sys.argv[0], *options, *([corpus] if corpus else [])], TARGETS[name])
    atheris.Fuzz()


def main() -> int:
    """Try one target; exit code 1 if something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.anything", description="Bytes of any kind.")
    parser.add_argument("target", choices=(*_TARGETS, "all"))
    parser.add_argument("--seconds", type=real(0.1), default=60.0, help="how long (default: 60)")
    parser.add_argument("--inputs", type=whole(1), default=10**12,
                        help="how many at most, at random (default: any number)")
    parser.add_argument("--seed", type=int, default=1, help="where inputs at random begin (default: 1)")
    parser.add_argument("--corpus", help="atheris's folder of inputs")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="print such a folder as lines of the corpus")
    arguments = parser.parse_args()
    if arguments.keep:
        print(*sorted(f"{arguments.target} {file.read_bytes().hex()}" for file in arguments.keep.iterdir()), sep="\n")
        return 0
    if importlib.util.find_spec("atheris") and arguments.target != "all":
        led(arguments.target, arguments.seconds, arguments.corpus)
        return 0
    from tests.worker_init.pure.byte_targets import TARGETS
    chosen = _TARGETS if arguments.target == "all" else (arguments.target,)
    tried = AtRandom({name: TARGETS[name] for name in chosen}, arguments.seed)
    tried.run(arguments.seconds, arguments.inputs)
    return 1 if any(tried.findings.values()) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Bytes of any kind for as long as they are given: ``python -m tests.fuzz.anything client --seconds 3600``.

With ``atheris`` installed the inputs are led by what they reach in the package; without it they are drawn from the
corpus and changed at random. ``--corpus`` is a folder that atheris reads and writes; what is worth keeping goes into
``tests/worker_init/pure/corpus.txt``: ``--keep FOLDER`` prints its lines.
"""

import argparse
import importlib.util
import random
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

CORPUS = Path(__file__).resolve().parents[1] / "worker_init" / "pure" / "corpus.txt"
# Bytes that mean something somewhere.
_MEANT = bytes.fromhex("00010281829091a1a2b0b1b3c0c1c3c8cccdd0d4d6d8e0f07f0f10113f6670717e7f12")


def known(target: str) -> list[bytes]:
    """Return the corpus of a target."""
    lines = (line.split() for line in CORPUS.read_text().splitlines())
    return [bytes.fromhex("".join(line[1:])) for line in lines if line[0] == target]


def changed(rnd: random.Random, inputs: list[bytes]) -> bytes:
    """Return one of the inputs with something changed, or something new."""
    data = bytearray(rnd.choice(inputs) if inputs and rnd.random() < 0.8 else b"")
    for _ in range(rnd.choice([1, 1, 2, 5, 30])):
        at = rnd.randint(0, len(data))
        piece = bytes(rnd.choice(_MEANT) for _ in range(rnd.choice([1, 1, 2, 8]))) if rnd.random() < 0.7 else (
            rnd.randbytes(rnd.choice([1, 2, 20])))
        data[at:at + rnd.choice([0, 0, 1, len(piece)])] = piece
    return bytes(data)


def at_random(target: Callable[[bytes], None], name: str, seconds: float, seed: int) -> int:
    """Try inputs at random; print each finding; return how many there were."""
    rnd, start, inputs, findings = random.Random(seed), time.monotonic(), 0, 0
    corpus = known(name)
    while time.monotonic() - start < seconds:
        data = changed(rnd, corpus)
        inputs += 1
        try:
            target(data)
        except Exception:
            findings += 1
            print(f"{name} {data.hex()}\n{traceback.format_exc()}", flush=True)
    print(f"{name}: {inputs:,} inputs at random in {time.monotonic() - start:.0f} s, {findings} findings")
    return findings


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
    parser.add_argument("target", choices=("handshake", "framing", "packstream", "client", "extras"))
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="where inputs at random begin (default: 1)")
    parser.add_argument("--corpus", help="atheris's folder of inputs")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="print such a folder as lines of the corpus")
    arguments = parser.parse_args()
    if arguments.keep:
        print(*sorted(f"{arguments.target} {file.read_bytes().hex()}" for file in arguments.keep.iterdir()), sep="\n")
        return 0
    if importlib.util.find_spec("atheris"):
        led(arguments.target, arguments.seconds, arguments.corpus)
        return 0
    from tests.worker_init.pure.byte_targets import TARGETS
    return 1 if at_random(TARGETS[arguments.target], arguments.target, arguments.seconds, arguments.seed) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Options of the fault suite that cannot be used are refused at once: one line, exit code 2, nothing started."""

import sys

import pytest

from chaos import __main__ as suite


@pytest.mark.parametrize(("options", "line"), [
    (("--only", "nothing"), "no name holds 'nothing'; the names are: black hole connections to Neo4j, calm, cut"),
    (("--bugs", "--only", "redis"), "no name holds 'redis'; the names are: lease kept, RESET skipped"),
    (("--survival", "3", "--only", "redis"), "no name holds 'redis'; the names are: Ctrl-C, kill -9, full disk"),
    (("--tasks", "0"), "argument --tasks: '0' is not a whole number from 1 on"),
    (("--seconds", "-1"), "argument --seconds: '-1' is not a number from 0.1 on"),
    (("--patterns", "worker,bad"), "argument --patterns: 'bad' is none of worker, improved, hook, problematic")])
def test_an_unusable_option_is_one_line(options: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str],
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["python -m chaos", *options])
    with pytest.raises(SystemExit) as ended:
        suite.main()
    assert ended.value.code == 2
    assert line in capsys.readouterr().err

"""What a user may choose: one clear line for what does not go, and a form that Locust does not lose a field of."""

import argparse
from typing import Any

import pytest

from loadtest import options
from rig.errors import BadInput


class Parser(argparse.ArgumentParser):
    """Takes Locust's own keywords, and keeps the names of the arguments."""

    def add_argument(self, *flags: Any, **known: Any) -> Any:
        known.pop("include_in_web_ui", None)
        return super().add_argument(*flags, **known)


def chosen(**changes: Any) -> argparse.Namespace:
    parser = Parser(add_help=False)
    options.add(parser)
    return argparse.Namespace(**vars(parser.parse_args([])) | changes)


def test_what_nobody_has_changed_is_a_test_of_a_minute() -> None:
    load = options.load_of(chosen(), users=1)
    assert (load.pattern, load.rate, load.seconds, load.users) == ("worker", 0.2, 60.0, None)
    assert options.conf_of(load) == {"patterns": ["worker"], "tasks": 5, "calls": 3, "hold": 0.2}


def test_two_tests_never_have_the_same_tag() -> None:
    assert options.load_of(chosen(), 1).tag != options.load_of(chosen(), 1).tag


def test_users_count_in_the_closed_model_alone() -> None:
    assert options.load_of(chosen(load_model="closed"), users=7).users == 7
    assert options.load_of(chosen(), users=7).users is None


def test_a_search_begins_at_the_rate_unless_another_first_one_is_asked_for() -> None:
    assert options.load_of(chosen(shape="find-the-knee"), 1).first_rate is None
    assert options.load_of(chosen(shape="find-the-knee", first_rate=0.4), 1).first_rate == 0.4


def test_arrivals_are_random_where_they_are_asked_for_alone() -> None:
    assert options.load_of(chosen(seed=7), 1).seed is None
    assert options.load_of(chosen(arrivals="poisson", seed=7), 1).seed == 7


@pytest.mark.parametrize("name", [name for name in vars(chosen()) if name != "results"])
def test_no_argument_has_a_digit_in_its_name(name: str) -> None:
    assert not any(letter.isdigit() for letter in name), "Locust's form would send it under another name"


@pytest.mark.parametrize(("changes", "words"), [
    ({"pattern": "best"}, "--pattern is 'best' — choose one of problematic, improved"),
    ({"pattern": "inherited"}, "--pattern is 'inherited'"),
    ({"shape": "sine"}, "--shape is 'sine'"),
    ({"tasks": 0}, "--tasks is 0 — give a number from 1 to 10000"),
    ({"arrival_rate": -1.0}, "--arrival-rate is -1"),
    ({"hold": 4000.0}, "--hold is 4000"),
    ({"run_limit": 1.0}, "--run-limit is 1"),
    ({"arrival_rate": 1000.0, "duration": 3600.0}, "more than 100000 DAG runs"),
    ({"shape": "spike", "load_model": "closed"}, "--shape is spike"),
    ({"arrivals": "sometimes"}, "--arrivals is 'sometimes' — choose one of even, poisson"),
    ({"arrivals": "poisson", "load_model": "closed"}, "--arrivals is poisson"),
    ({"seed": -1}, "--seed is -1"),
    ({"shape": "find-the-knee", "duration": 30.0}, "--duration is 30 s and a step of find-the-knee takes 45 s")])
def test_what_does_not_go_is_one_line_that_names_the_argument(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput) as caught:
        options.load_of(chosen(**changes), users=1)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_rate_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(BadInput, match="--arrival-rate"):
        options.load_of(chosen(arrival_rate=value), users=1)


@pytest.mark.parametrize(("form", "said"), [
    ({"tasks": "12", "pattern": "improved", "user_count": "1"}, None),
    ({"tasks": "abc"}, "--tasks is 'abc': give a number"),
    ({"tasks": "1.5"}, "--tasks is '1.5': give a number"),
    ({"hold": ""}, "--hold is '': give a number"),
    ({"pattern": "<b>"}, "--pattern is '<b>' — choose one of problematic, improved"),
    ({"arrival_rate": "0"}, "--arrival-rate is 0 — give a number from 0.001 to 1000")])
def test_a_form_is_judged_before_locust_takes_it(form: dict[str, str], said: str | None) -> None:
    found = options.problem_with(form, chosen())
    assert (found or "").startswith(said or "")
    assert (found is None) is (said is None)

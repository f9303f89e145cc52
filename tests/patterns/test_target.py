"""The environment is read into a target, and says what is wrong where it cannot be."""

import pytest

from patterns.target import SettingError, Target

COMMON = {"NEO4J_URI": "neo4j://common:7687", "NEO4J_USERNAME": "someone", "NEO4J_PASSWORD": "common-secret",
          "NEO4J_DATABASE": "shop"}


def test_the_common_settings_are_every_aliass() -> None:
    assert Target.from_environment(COMMON) == ("neo4j://common:7687", "someone", "common-secret", "shop")
    assert Target.from_environment(COMMON, "reports") == Target.from_environment(COMMON)


@pytest.mark.parametrize(("field", "setting"), [("uri", "URI"), ("username", "USERNAME"),
                                                ("password", "PASSWORD"), ("database", "DATABASE")])
def test_each_setting_of_an_alias_falls_back_by_itself(field: str, setting: str) -> None:
    target = Target.from_environment(COMMON | {f"NEO4J_REPORTS_{setting}": "own"}, "reports")
    assert target == Target.from_environment(COMMON)._replace(**{field: "own"})


def test_user_and_database_have_defaults() -> None:
    target = Target.from_environment({"NEO4J_URI": "bolt://h", "NEO4J_PASSWORD": "p", "NEO4J_DATABASE": ""})
    assert (target.username, target.database) == ("neo4j", None)


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize("setting", ["NEO4J_URI", "NEO4J_PASSWORD"])
def test_a_missing_setting_is_named_with_what_to_do(setting: str, value: str | None) -> None:
    environ = {name: text for name, text in COMMON.items() if name != setting}
    if value is not None:
        environ[setting] = value
    with pytest.raises(SettingError, match=rf"{setting} is not set: expected .* — set it \(or NEO4J_ROOT_"):
        Target.from_environment(environ)


@pytest.mark.parametrize("alias", ["", "1st", "a b", "a;b", "ä", "a\n"])
def test_an_alias_is_a_name(alias: str) -> None:
    with pytest.raises(SettingError, match="is not a name: expected letters"):
        Target.from_environment(COMMON, alias)


def test_the_password_is_in_no_text() -> None:
    target = Target.from_environment(COMMON)
    assert not any("common-secret" in text for text in (repr(target), str(target), f"{target}", f"{[target]}"))

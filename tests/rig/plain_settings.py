"""Settings as a user has them who has set nothing."""

from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from rig.settings import Settings


class PlainSettings(Settings):
    """Neither the developer's environment nor a .env gets into these: only what the test gives."""

    @classmethod
    def settings_customise_sources(
            cls, settings_cls: type[BaseSettings],  # noqa: ARG003 - keyword arguments of pydantic's choice
            init_settings: PydanticBaseSettingsSource,
            *_args: Any, **_kwargs: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

"""The JSON schema of recipes is made from the dataclasses that a recipe configures, and ships with the package."""

import dataclasses

import pytest

from llm_jepa.config import own_fields
from llm_jepa.recipe import CONFIGURATIONS, build_recipe
from llm_jepa.recipe_schema import recipe_schema, schema_text
from llm_jepa.settings.objectives import OBJECTIVES
from llm_jepa.settings.reading import idle_keys
from llm_jepa.settings.schema import SCHEMA_FILES, known_settings
from llm_jepa.vision.config import VisionConfig, vision_fields


@pytest.mark.parametrize("kind", SCHEMA_FILES)
def test_the_schema_is_that_of_the_dataclasses(kind):
    """If this fails, an option or TRL's version has changed: run `make schema`."""
    assert SCHEMA_FILES[kind].read_text(encoding="utf-8") == schema_text(kind)


def test_an_objective_is_a_name_or_a_file_or_a_list_of_them():
    named, free, several = recipe_schema()["properties"]["jepa_objective"]["anyOf"]
    assert named == {"enum": list(OBJECTIVES)}
    assert free["type"] == "string"
    assert (several["type"], several["items"]) == ("array", {"anyOf": [named, free]})
    assert (several["minItems"], several["uniqueItems"]) == (1, True)
    setting = known_settings()["jepa_objective"]
    assert (setting.types, setting.choices) == (("string", "array"), tuple(OBJECTIVES))
    assert setting.item is not None
    assert (setting.item.types, setting.item.choices) == (("string",), tuple(OBJECTIVES))


def test_every_key_is_in_the_schema_or_has_no_effect():
    """Both ways: a key that the dataclasses lack would be dropped in silence."""
    for kind, configurations in (("text", CONFIGURATIONS), ("vision", (VisionConfig,))):
        keys = {field.name for of in configurations for field in dataclasses.fields(of) if field.init}
        assert keys - idle_keys(kind).keys() == known_settings(kind).keys()
        assert kind == "vision" or keys >= idle_keys(kind).keys()


def test_the_options_of_the_toolkit_are_ours_and_each_says_what_it_means():
    for kind, own in (("text", own_fields()), ("vision", vision_fields())):
        ours = {key: setting for key, setting in known_settings(kind).items() if setting.owner == "llm_jepa"}
        assert ours.keys() == own.keys()
        assert all(setting.help.endswith(".") for setting in ours.values())


def test_a_key_that_the_installed_libraries_lack_is_refused(monkeypatch, tmp_path):
    """As when the schema was made with another version of transformers."""
    monkeypatch.setattr("llm_jepa.recipe.check_settings", lambda *_: None)
    with pytest.raises(ValueError, match=r"`planted_key` is unknown to the installed transformers .* constraints.txt"):
        build_recipe(tmp_path / "recipe.yaml", {"output_dir": str(tmp_path), "planted_key": True})

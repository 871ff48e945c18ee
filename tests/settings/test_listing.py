"""The listings have every option once, as the schema says it."""

from llm_jepa.settings.listing import options_table, options_text
from llm_jepa.settings.schema import known_settings


def test_the_table_has_a_row_for_each_option_of_the_toolkit():
    head, rule, *rows = options_table().splitlines()
    assert head.count("|") == rule.count("|") == 3
    ours = {key: setting for key, setting in known_settings().items() if setting.owner == "llm_jepa"}
    assert [row.split("`")[1] for row in rows] == list(ours)
    assert all(row.endswith(f"| {setting.help} |") for row, setting in zip(rows, ours.values(), strict=True))
    for key, cell in {
        "jepa_layout": "**`auto`**, `packed`, `flat`, `rows`",
        "info_nce_temperature": "a number",
        "from_scratch": "true or false, **false**",
    }.items():
        assert rows[list(ours).index(key)].startswith(f"| `{key}`<br>{cell} | ")


def test_the_two_texts_have_every_key_with_its_default_and_meaning():
    ours, trls = options_text("llm_jepa"), options_text("trl")
    for key, setting in known_settings().items():
        text = ours if setting.owner == "llm_jepa" else trls
        assert f"  --{key} " in text
        assert "".join(setting.help.split()) in "".join(text.split())  # a long word is broken at its hyphens
    assert "--num_predictor_tokens INTEGER  (default: 1)" in ours
    assert "--learning_rate NUMBER  (default: 2e-05)" in trls

"""A data set of any form -> tokenised rows with labels and views, as the trainer prepares them."""

import contextlib
import json

import pytest
from datasets import Dataset, load_dataset

from llm_jepa.data.loading import load_split
from llm_jepa.data.source import DataSource
from tests.data.preparing import CHAT, LONG, PAIR_COLUMNS, PREPARED_COLUMNS, TOKENISED, learned, new_trainer
from tests.templates import LITERAL, SHIPPED, with_template
from tests.tiny import CHATML, PAIRS, tiny_tokenizer

# --- labels


CHAT_ROWS = [
    {
        "prompt": [{"role": "system", "content": "Write regexes."}, {"role": "user", "content": pair["source"]}],
        "completion": [{"role": "assistant", "content": pair["target"]}],
    }
    for pair in PAIRS
]
PLAIN_ROWS = [{"prompt": pair["source"] + "\n", "completion": pair["target"]} for pair in PAIRS]
MESSAGES_ROWS = [{"messages": [*row["prompt"], *row["completion"]]} for row in CHAT_ROWS]
SAME_DATA = {
    "chat": (CHAT_ROWS, CHAT_ROWS, {}, CHATML),
    "messages": (MESSAGES_ROWS, CHAT_ROWS, {}, CHATML),
    "columns": (PAIRS, CHAT_ROWS, {"system_prompt": "Write regexes."}, CHATML),
    "plain": (PLAIN_ROWS, PLAIN_ROWS, {}, CHATML),
    "plain columns": (PAIRS, PLAIN_ROWS, {}, None),
    "llama": (PAIRS, CHAT_ROWS, {"system_prompt": "Write regexes."}, SHIPPED["llama3_2"]),
    "gemma": (PAIRS, [row | {"prompt": row["prompt"][1:]} for row in CHAT_ROWS], {}, SHIPPED["gemma"]),
}


@pytest.mark.parametrize("form", SAME_DATA)
@pytest.mark.parametrize("jepa_weight", [0.0, 1.0], ids=["lm-only", "jepa"])
def test_conversations_and_labels_are_those_of_trl(form, jepa_weight, prepare, sft_trainer):
    rows, trl_rows, options, template = SAME_DATA[form]
    tokenizer = with_template(template)
    ours = prepare(rows, tokenizer, jepa_weight=jepa_weight, **options)
    theirs = sft_trainer._prepare_dataset(
        Dataset.from_list(trl_rows), tokenizer, sft_trainer.args, False, None, "train"
    )
    assert len(ours) == len(theirs) == len(PAIRS)
    for name in ("input_ids", "labels"):
        assert ours[name] == theirs[name]


@pytest.mark.parametrize(
    "rows", [PAIRS, CHAT_ROWS, MESSAGES_ROWS, PLAIN_ROWS], ids=["pairs", "chat", "messages", "plain"]
)
def test_a_new_trainer_learns_the_completion_alone_and_its_stop_token(rows):
    """Whatever the columns are called before the mapping; here pad == eos, which must not mask the stop token."""
    trainer = new_trainer(rows, **(PAIR_COLUMNS if rows is PAIRS else {}))
    tokenizer = trainer.processing_class
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    for row, pair in zip(trainer.train_dataset, PAIRS, strict=True):
        assert learned(row).rstrip("\n") == pair["target"] + "<|im_end|>"
    assert trainer.eval_dataset["labels"] == trainer.train_dataset["labels"][:2]
    labels_BL = trainer.data_collator([trainer.train_dataset[i] for i in range(3)])["labels"]
    assert [(labels_L == tokenizer.eos_token_id).sum().item() for labels_L in labels_BL] == [1, 1, 1]


def test_of_messages_the_last_assistant_turn_is_learned_given_all_before_it(prepare):
    (row,) = prepare([{"messages": CHAT}])
    assert learned(row) == "[0-9]<|im_end|>\n"
    text = tiny_tokenizer().decode(row["input_ids"])
    assert text.startswith("<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\nletters<|im_end|>\n")


def test_tools_of_a_row_reach_the_conversation(prepare):
    tool = '[{"type": "function", "function": {"name": "look_up", "description": "", "parameters": {}}}]'
    tokenizer = with_template(SHIPPED["llama3_2"])
    for source_view in ("alone", "prefix"):
        (row,) = prepare([{"messages": CHAT, "tools": tool}], tokenizer, jepa_source_view=source_view)
        assert "look_up" in tokenizer.decode(row["input_ids"])
        assert ("look_up" in tokenizer.decode(row["source_ids"])) == (source_view == "prefix")


@pytest.mark.parametrize("form", ["file", "list", "stream"])
def test_rows_may_lack_settings_of_the_template(form, prepare, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    plain, settings = {"enable_thinking": False}, ({}, {"chat_template_kwargs": {"enable_thinking": False}})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(PAIRS[n] | settings[n % 2]) + "\n" for n in range(4)))
    if form == "list":
        rows = Dataset.from_list([PAIRS[n] | {"chat_template_kwargs": (None, plain)[n % 2]} for n in range(4)])
    else:
        rows = load_split(DataSource(str(path), dataset_streaming=form == "stream"), "train")
    tokenizer = with_template(SHIPPED["qwen3"])
    without, with_it = (prepare(PAIRS, tokenizer, chat_template_kwargs=given)["labels"] for given in (None, plain))
    found = [row["labels"] for row in prepare(rows, tokenizer, **PAIR_COLUMNS)]
    assert without[0] != with_it[0]
    assert found == [without[0], with_it[1], without[2], with_it[3]]


def test_a_system_column_reaches_the_model_and_columns_that_are_not_read_are_named(prepare, caplog):
    rows = [{"messages": CHAT, "system": f"Be brief, {i}."} for i in range(2)]
    for i, row in enumerate(prepare(rows)):
        assert tiny_tokenizer().decode(row["input_ids"]).startswith(f"<|im_start|>system\nBe brief, {i}.<|im_end|>\n")
    assert "not read" not in caplog.text
    assert prepare([row | {"history": "h"} for row in rows])["input_ids"] == prepare(rows)["input_ids"]
    assert caplog.text.count("Of the train data, `history` is not read; a text that should count goes into") == 1
    prepare([pair | {"system": "s"} for pair in PAIRS])
    assert "Of the train data, `system` is not read" in caplog.text


def test_turns_that_are_not_to_be_learned_are_refused_where_every_turn_is(prepare):
    chat = [CHAT[0], {**CHAT[1], "weight": 0}, *CHAT[2:]]
    assert learned(prepare([{"messages": chat}])[0]) == "[0-9]<|im_end|>\n"
    with pytest.raises(ValueError, match=r"Row 0: a turn to learn has `weight: 0`.* Leave out `completion_only_loss"):
        prepare([{"messages": chat}], completion_only_loss=False)


# --- rows in, rows out


@pytest.mark.parametrize("source_view", ["alone", "prefix"])
@pytest.mark.parametrize("rows", [PAIRS, MESSAGES_ROWS, PLAIN_ROWS], ids=["pairs", "messages", "plain"])
def test_a_stream_is_prepared_as_a_data_set_is(rows, source_view, prepare):
    dataset = Dataset.from_list(rows)
    options = {"jepa_source_view": source_view, "max_length": 60}
    stream = list(prepare(dataset.to_iterable_dataset(), **options))
    columns = ("input_ids", "labels", "source_ids", "source_start", "target_ids", "target_start", "row_index")
    expected = prepare(dataset, **options)
    assert [{name: row[name] for name in columns} for row in stream] == [
        {name: row[name] for name in columns} for row in expected
    ]


def test_a_stream_of_long_rows_alone_is_refused(prepare):
    with pytest.raises(ValueError, match="ends without a row"):
        prepare(Dataset.from_list(PAIRS).to_iterable_dataset(), max_length=5)


def test_prepared_rows_have_what_the_collator_reads(prepare):
    extra = [{**pair, "id": i, "text": "t", "labels": [1], "input": "x"} for i, pair in enumerate(PAIRS)]
    assert prepare(extra).to_list() == prepare(PAIRS).to_list()
    assert set(prepare(PAIRS).column_names) >= PREPARED_COLUMNS


def test_a_data_set_that_is_prepared_stays_as_it_is(prepare):
    """TRL's `evaluate` prepares a dict of data sets, and then each of them again."""
    kept = prepare(PAIRS, max_length=54)
    assert 0 < len(kept) < len(PAIRS)
    assert prepare(kept, **PAIR_COLUMNS).to_list() == kept.to_list()
    metrics = new_trainer(PAIRS, **PAIR_COLUMNS).evaluate({"held_out": Dataset.from_list(PAIRS[:2])})
    assert "eval_held_out_loss" in metrics


@pytest.mark.parametrize("options", [{}, {"jepa_source_view": "prefix"}])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_row_keeps_its_number_when_trl_shuffles(options, streaming, prepare):
    dataset = Dataset.from_list(PAIRS)
    expected = [row["target_ids"] for row in prepare(dataset, **options)]
    dataset = dataset.to_iterable_dataset() if streaming else dataset
    shuffled = list(prepare(dataset, shuffle_dataset=True, **options))
    order = [row["row_index"] for row in shuffled]
    assert order != sorted(order) == list(range(len(PAIRS)))
    assert [row["target_ids"] for row in shuffled] == [expected[index] for index in order]


CONVERSATION = "class Mine:\n    row_needs = 'conversation'\n"


@pytest.mark.parametrize("source_view", ["alone", "prefix"])
@pytest.mark.parametrize("rows", [PAIRS, MESSAGES_ROWS, PLAIN_ROWS], ids=["pairs", "messages", "plain"])
def test_several_objectives_get_the_columns_of_each(rows, source_view, prepare):
    pair = prepare(rows, jepa_source_view=source_view)
    tube = prepare(rows, jepa_objective="tube")
    both = prepare(rows, jepa_objective=["tube", "pair"], jepa_source_view=source_view)
    assert {*both.column_names} == {*pair.column_names} | {*tube.column_names}
    assert both.select_columns(pair.column_names).to_list() == pair.to_list()
    assert both.select_columns(tube.column_names).to_list() == tube.to_list()
    assert prepare(both, jepa_objective=["tube", "pair"]).to_list() == both.to_list()


@pytest.mark.parametrize(
    "rows",
    [PAIRS, MESSAGES_ROWS, PLAIN_ROWS, [{"text": "digits"}, {"text": "a"}]],
    ids=["pairs", "messages", "plain", "text"],
)
def test_an_objective_of_conversations_has_the_rows_of_sft(rows, prepare, tmp_path):
    (tmp_path / "own.py").write_text(CONVERSATION)
    objective = f"{tmp_path / 'own.py'}:Mine"
    prepared = prepare(rows, jepa_objective=objective)
    assert {*prepared.column_names}.isdisjoint({"source_ids", "target_ids", "source_span", "target_span"})
    expected = prepare(rows, jepa_weight=0.0).select_columns(prepared.column_names)
    assert prepared.to_list() == expected.to_list()
    assert prepare(prepared, jepa_objective=objective).to_list() == prepared.to_list()
    if "text" in rows[0]:
        spans = prepare(rows, jepa_objective=[objective, "tube"])
        assert spans.to_list() == prepare(rows, jepa_objective="tube").to_list()


FORMS = {"pairs": (PAIRS, {}), "tokenised": ([TOKENISED] * 4, {}), "text": ([{"text": "a"}] * 4, {"jepa_weight": 0.0})}


@pytest.mark.parametrize("form", FORMS)
def test_every_pass_over_the_rows_has_the_processes_asked_for(form, prepare, monkeypatch):
    rows, options = FORMS[form]
    asked = []
    for name in ("map", "filter"):
        original = getattr(Dataset, name)

        def counted(self, *args, original=original, **kwargs):
            asked.append(kwargs.get("num_proc"))
            return original(self, *args, **kwargs)

        monkeypatch.setattr(Dataset, name, counted)
    prepared = prepare(rows, dataset_num_proc=2, max_length=200, **options)
    assert set(asked) == {2}
    monkeypatch.undo()
    assert prepared.to_list() == prepare(rows, max_length=200, **options).to_list()


def test_a_bad_row_is_named_from_another_process_too(prepare):
    with pytest.raises(ValueError, match=r"^Row 3: the target is empty\.$"):
        prepare([*PAIRS[:3], {"source": "digits", "target": " "}], dataset_num_proc=2)
    with pytest.raises(ValueError, match="Row 3: the row has"):
        prepare(LONG[-1:] * 3 + LONG[1:2], dataset_num_proc=2, max_length=80, long_rows="error")


@pytest.mark.parametrize("form", FORMS)
def test_one_process_maps_and_the_others_read_its_cache(form, prepare, monkeypatch):
    """Each pass stands in the guard of TRL, one guard at a time: nested ones would not keep the order."""
    depth, depths = [0], []

    @contextlib.contextmanager
    def guard():
        depth[0] += 1
        yield
        depth[0] -= 1

    monkeypatch.setattr("llm_jepa.data.preparation.global_then_local_main_first", guard)
    monkeypatch.setattr("trl.trainer.sft_trainer.global_then_local_main_first", guard)
    for name in ("map", "filter"):
        original = getattr(Dataset, name)

        def seen(self, *args, original=original, **kwargs):
            depths.append(depth[0])
            return original(self, *args, **kwargs)

        monkeypatch.setattr(Dataset, name, seen)
    rows, options = FORMS[form]
    prepare(rows, max_length=200, **options)
    assert set(depths) == {1}


@pytest.mark.parametrize("rows", [MESSAGES_ROWS, [TOKENISED]], ids=["messages", "tokenised"])
def test_the_name_of_a_text_column_has_no_effect_on_other_rows(rows, prepare):
    with pytest.raises(ValueError, match="`dataset_text_field: body` has no effect"):
        prepare(rows, jepa_weight=0.0, dataset_text_field="body")
    assert len(prepare([{"body": "a"}], jepa_weight=0.0, dataset_text_field="body")) == 1


# --- templates that refuse


@pytest.mark.parametrize("streaming", [False, True])
def test_a_template_that_takes_no_system_turn_says_so(streaming, prepare):
    dataset = Dataset.from_list(PAIRS)
    dataset = dataset.to_iterable_dataset() if streaming else dataset
    message = "The chat template cannot render the train data: System role not supported.*`system_prompt`"
    with pytest.raises(ValueError, match=message):
        prepare(dataset, with_template(SHIPPED["gemma"]), system_prompt="Be brief.")


def test_a_view_that_cannot_be_made_names_its_row(prepare):
    """A template that capitalises what begins with an x: only that row has no prefix view."""
    content = "(message['content'] | upper if message['content'][0] == 'x' else message['content'])"
    tokenizer = with_template(CHATML.replace("message['content']", content))
    rows = [PAIRS[0], {"source": "xylophone", "target": "x"}]
    with pytest.raises(ValueError, match=r"Row 1: the chat template rewrites the source.*'XYLOPHONE"):
        prepare(rows, tokenizer, jepa_source_view="prefix")


def test_a_chat_without_a_template_is_refused(prepare):
    with pytest.raises(ValueError, match="Row 0: the row is a chat, but the tokenizer has no chat template"):
        prepare([{"messages": CHAT}], with_template(None))


# --- the cache of `datasets`


def test_rows_of_older_code_are_not_taken_from_the_cache(prepare, tmp_path, monkeypatch):
    """`datasets` does not look into the functions that a mapped one calls."""
    file = tmp_path / "rows.parquet"
    Dataset.from_list(PAIRS).to_parquet(file)

    def fingerprint():
        dataset = load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
        return prepare(dataset)._fingerprint

    before = fingerprint()
    monkeypatch.setattr("llm_jepa.data.rows.PREPARATION_VERSION", "older")
    assert fingerprint() != before
    monkeypatch.undo()
    assert fingerprint() == before


@pytest.mark.parametrize("form", ["pairs", "tokenised", "text"])
def test_preparing_the_same_data_again_computes_nothing(form, prepare, tmp_path):
    """Nor does it in another run with another learning rate: only what the rows depend on enters the cache's key."""
    rows = {"pairs": PAIRS, "tokenised": [TOKENISED] * 3, "text": [{"text": "abc"}] * 3}[form]
    options = {"jepa_weight": 0.0} if form == "text" else {}
    file = tmp_path / "rows.parquet"
    Dataset.from_list(rows).to_parquet(file)

    def prepare_file(**more):
        cache = tmp_path / "cache"
        dataset = load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(cache))
        tokenizer = with_template(LITERAL["smollm2"])  # a new object each time, as in a new process
        return prepare(dataset, tokenizer, **options | more), set(cache.rglob("cache-*.arrow"))

    first, files = prepare_file()
    again, files_again = prepare_file(learning_rate=0.5, seed=7, jepa_loss="mse")
    assert files
    assert files_again == files
    assert again._fingerprint == first._fingerprint
    if form == "pairs":
        prefix, more_files = prepare_file(jepa_source_view="prefix")
        assert more_files > files
        assert prefix["source_ids"] != first["source_ids"]

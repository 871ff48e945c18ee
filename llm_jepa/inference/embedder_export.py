"""Exports a run as an embedder: a directory that `SentenceTransformer(DIR)` loads, without this package.

The prompts `source` and `target` choose the view. sentence-transformers hands a prompt to the chat template as a
system turn; the exported template writes the view that it names: what stands before the content, the content, and the
[PRED] tokens where the view predicts. The [PRED] vectors are rows of the embedding table.
Legend: K predictor tokens, D width.
"""

import copy
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from peft import PeftModel
from tokenizers import AddedToken
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_jepa.data.spans import MARKER
from llm_jepa.files.staged import make_readable, staged_directory
from llm_jepa.inference.encoder import LatentEncoder, vectors_in
from llm_jepa.inference.export_checks import quantised_message
from llm_jepa.inference.tuned_model import load_tuned
from llm_jepa.models.latent_predictor import read_facts, read_weights
from llm_jepa.models.merging import untie_adapted_embeddings
from llm_jepa.objectives.view_sequences import ViewName, view_names

VIEWS: tuple[ViewName, ViewName] = ("source", "target")
PROMPTS = {"source": "source", "target": "target", "query": "source", "document": "target"}
"""Name of a prompt -> its text, the view. `encode_query`, `encode_document` and MTEB use the last two names."""
PROBES = ("lines with a number", " 2 + 2 = 4? ", "(a|b)*\n\n  c", "Grüße, 漢字 🙂", "'x'")
"""Texts whose tokens are compared before anything is written."""


def export_embedder(run: Path, output_dir: Path, dtype: str | None = None) -> None:
    """Write a run's model with its [PRED] vectors for sentence-transformers. An adapter is merged.

    Args:
        run: A run's directory, or what was merged or pulled.
        output_dir: A new or empty directory. It is written completely or not at all.
        dtype: Precision of the weights; that of training if None.

    Raises:
        ValueError: The model cannot be loaded, the predictor has no [PRED] vectors where the run has some, or the
            tokens of a view cannot be written by a template.
    """
    _, tokenizer, model = load_tuned(run, dtype)
    weights = read_weights(run)
    encoder, vectors_KD = LatentEncoder(model, tokenizer, read_facts(run), weights), vectors_in(weights)
    num_vectors = 0 if vectors_KD is None else len(vectors_KD)
    if num_vectors != encoder.options.num_predictor_tokens:
        raise ValueError(
            f"The latent predictor has {num_vectors} [PRED] vectors, not `num_predictor_tokens: "
            f"{encoder.options.num_predictor_tokens}`: its objective predicts otherwise. Encode with `LatentEncoder`."
        )
    if getattr(encoder.model, "hf_quantizer", None) is not None:
        raise ValueError(quantised_message(run))
    exported, token_ids = exported_tokenizer(encoder)
    backbone = merged_backbone(model)
    if vectors_KD is not None:
        add_rows(backbone, token_ids, vectors_KD)
    with staged_directory(output_dir) as staging:
        _write(backbone, exported, staging)
        make_readable(staging)


def exported_tokenizer(encoder: LatentEncoder) -> tuple[PreTrainedTokenizerBase, list[int]]:
    """The tokenizer with [PRED] tokens and the template that writes both views, and the ids of these tokens.

    Raises:
        ValueError: It does not give the tokens of the encoder.
    """
    tokenizer, options = copy.deepcopy(encoder.tokenizer), encoder.options
    names = [f"<|pred_{number}|>" for number in range(1, options.num_predictor_tokens + 1)]
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in names], special_tokens=True)
    vocabulary = tokenizer.get_vocab()
    token_ids = [vocabulary[name] for name in names]
    predicting, _ = view_names(options.jepa_direction)
    prepends = options.predictor_position == "prepend"
    tokenizer.chat_template = view_template(
        {view: written_view(encoder, view, "".join(names) if view == predicting else "", prepends) for view in VIEWS}
    )
    tokenizer.padding_side = "right"
    check_same_tokens(encoder, tokenizer, token_ids)
    return tokenizer, token_ids


def written_view(encoder: LatentEncoder, view: ViewName, predictor: str, prepends: bool) -> str:
    """The expression of Jinja that writes a view: what stands before the content, the content, the [PRED] tokens.

    A `prefix` view keeps the space at the beginning of a content; all views end at its last other character.
    """
    rows = encoder.text_rows([MARKER, f" {MARKER}"], view)
    texts = encoder.tokenizer.batch_decode([row[f"{view}_ids"] for row in rows], clean_up_tokenization_spaces=False)
    before, before_space = (text.rpartition(MARKER)[0] for text in texts)
    content = "content.strip()" if before_space == before else "content.rstrip()"
    around = (before + predictor, "") if prepends else (before, predictor)
    first, last = (json.dumps(text, ensure_ascii=False) for text in around)
    return f"{{{{ {first} ~ {content} ~ {last} }}}}"


def view_template(written: Mapping[ViewName, str]) -> str:
    """The template that writes the view which the system turn names."""
    return (
        "{%- set view = messages[0]['content'] if messages[0]['role'] == 'system' else 'none' -%}"
        "{%- set content = messages[-1]['content'] -%}"
        f"{{%- if view == 'source' -%}}{written['source']}"
        f"{{%- elif view == 'target' -%}}{written['target']}"
        "{%- else -%}{{ raise_exception('The prompt is ' ~ view ~ '; it must be source or target.') }}{%- endif -%}"
    )


def check_same_tokens(encoder: LatentEncoder, tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> None:
    """Check on a few texts that the exported tokenizer gives the encoder's tokens, [PRED] tokens at their slots.

    Raises:
        ValueError: It does not.
    """
    for view in VIEWS:
        for text, sequence in zip(PROBES, encoder.sequences(encoder.text_rows(PROBES, view), view), strict=True):
            slots = zip(sequence.token_ids, sequence.slots, strict=True)
            expected = [token_ids[slot - 1] if slot else token_id for token_id, slot in slots]
            messages = [{"role": "system", "content": view}, {"role": "user", "content": text}]
            if tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False) != expected:
                raise ValueError(
                    f"The tokens of the {view} view cannot be written by a template: this tokenizer divides "
                    f"{text!r} otherwise there. Encode with `LatentEncoder`."
                )


def merged_backbone(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The model without its LM head, the adapter merged into it. The sums are rounded once, at the end."""
    if isinstance(model, PeftModel):
        base, dtype = model.get_base_model(), model.dtype
        assert isinstance(base, PreTrainedModel)
        untie_adapted_embeddings(base)  # an adapted head would change the table
        model = model.float().merge_and_unload().to(dtype)
    backbone = model.base_model
    assert isinstance(backbone, PreTrainedModel)
    return backbone.eval()


@torch.no_grad()
def add_rows(backbone: PreTrainedModel, token_ids: Sequence[int], vectors_KD: Tensor) -> None:
    """Make the [PRED] vectors the embeddings of their tokens."""
    table = backbone.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    if max(token_ids) >= table.num_embeddings:
        table = backbone.resize_token_embeddings(max(token_ids) + 1, mean_resizing=False)
    scale = getattr(table, "embed_scale", 1.0)  # Gemma's tables multiply what they give out
    table.weight[list(token_ids)] = (vectors_KD.to(table.weight.device) / scale).to(table.weight.dtype)


def _write(backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Let sentence-transformers write its own files; it reads the backbone from a directory beside."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    forward = {"method": "forward", "method_output_name": "last_hidden_state"}
    modalities = {"text": forward, "message": forward | {"format": "flat"}}  # texts become messages, then
    with tempfile.TemporaryDirectory(dir=directory.parent) as place:
        backbone.save_pretrained(place)
        tokenizer.save_pretrained(place)
        transformer = Transformer(place, modality_config=modalities, module_output_name="token_embeddings")
        pooling = Pooling(backbone.config.get_text_config().hidden_size, "lasttoken")
        embedder = SentenceTransformer(
            modules=[transformer, pooling], prompts=PROMPTS, similarity_fn_name="cosine", device="cpu"
        )
        embedder.default_prompt_name = "target"  # set later, so that it is not logged
        embedder.save_pretrained(str(directory), create_model_card=False)

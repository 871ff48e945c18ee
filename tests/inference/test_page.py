"""The Python of docs/inference.md runs as it stands, on a tiny run."""

import re
from pathlib import Path

from llm_jepa.inference.embedder_export import export_embedder
from tests.inference.latent_runs import new_trainer

PAGE = Path(__file__).parents[2] / "docs" / "inference.md"
RUN = "outputs/nl_rx/smollm2-135m-lora"
DRAFTING_RUN = "outputs/nl_rx/smollm2-135m-next_latent"
LOG = ["start ok"] * 20 + ["error disk full"] * 5 + ["restart"] * 10


def test_every_example_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    new_trainer(Path(RUN)).save_model()
    new_trainer(Path(DRAFTING_RUN), jepa_objective="next_latent", num_predictor_tokens=1).save_model()
    export_embedder(Path(RUN), Path("outputs/nl_rx/embedder"))
    for name in ("monday.log", "tuesday.log"):
        Path(name).write_text("\n".join(LOG))
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert f'from_run("{RUN}")' in examples[0]
    for example in examples:
        exec(example, {})
    assert "['start ok', 'error disk full', 'restart']" in capsys.readouterr().out

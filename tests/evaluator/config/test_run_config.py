import re
from pathlib import Path

import pytest
import yaml

from evaluator.config.config_file import dump_config
from evaluator.config.run_config import deciding_fields, load_config
from evaluator.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[3]
GOOD = {
    "name": "demo",
    "suite": "demo/suite",
    "out": "results/demo",
    "arms": [
        {"name": "base", "kind": "base", "model": "demo/base", "load": "nf4"},
        {"name": "restored", "kind": "restored", "model": "demo/base", "artifact": "a.pt"},
        {"name": "nf4", "kind": "merged", "model": "build/nf4"},
    ],
    "decoding": {"samples": 2, "temperature": 0.8, "max_new_tokens": 192, "seed": 3},
    "equivalence": {"margin": 0.03},
    "judge": {"standard": "c++17", "workers": 2},
}
ADAPTER = {"rng": "cpu", "numerics": "trainer", "placement": {"": "cpu"}, "formula": "full"}
ENDPOINT = {"base_url": "http://localhost:1/v1", "model": "m"}


def write(path, **changes):
    path.write_text(yaml.safe_dump({**GOOD, **changes}), encoding="utf-8")
    return path


@pytest.fixture
def fields(tmp_path):
    """``fields(**changes)``: what of a configuration decides the records."""
    return lambda **changes: deciding_fields(load_config(write(tmp_path / "c.yaml", **changes)))


def test_paths_workers_and_token_level_do_not_decide_records_and_the_margin_does(fields):
    moved = [{**arm, "model": "moved"} for arm in GOOD["arms"]]
    judge = {"standard": "c++17", "workers": 7}
    assert fields() == fields(out="elsewhere", suite="moved", arms=moved, judge=judge)
    assert fields() == fields(token_level={"enabled": False, "max_tokens": 7})
    assert fields() == fields(arms=[{**arm, "backend": "transformers"} for arm in moved])
    assert fields() == fields(arms=[{**arm, "endpoint": None} for arm in moved])
    assert fields() != fields(arms=[{**moved[0], "load": "auto"}, *moved[1:]])
    assert fields() != fields(equivalence={"margin": 0.05})
    assert fields() != fields(judge={"standard": "c++14"})


def test_testlib_decides_by_its_content(fields, tmp_path):
    def with_testlib(name, content):
        (tmp_path / name).write_text(content)
        return fields(judge={"testlib_path": str(tmp_path / name)})

    one = with_testlib("a.h", "// one")
    assert one == with_testlib("b.h", "// one") != with_testlib("a.h", "// two")


def arm(**fields):
    """A change: one arm alone, with these fields."""
    return {"arms": [{"name": "a", "kind": "base", "model": "m", **fields}]}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"colour": 1}, "field colour: there is no such field; known are arms, backend, comp"),
        ({"decoding": {"temprature": 0.8}}, "no such field; did you mean temperature?"),
        (arm(modle="m"), "field arms.0.modle: there is no such field; did"),
        (arm(kind="bas"), "arms.0.kind"),
        (arm(kind="restored"), "needs the field artifact"),
        (arm(artifact="x"), "artifact belongs to arms of kind restored"),
        (arm(**ADAPTER), "formula and rng and numerics and placement: how an adapter's delta is"),
        (arm(kind="restored", model="", endpoint=ENDPOINT), "serve the merged export and comp"),
        (arm(name="a/b"), "arms.0.name"),
        ({"arms": arm()["arms"] * 2}, "found twice: a"),
        ({"decoding": {"temperature": "0.8"}}, "decoding.temperature"),
        ({"decoding": {"repetition_penalty": 0}}, "decoding.repetition_penalty: exp"),
        ({"decoding": {"repetition_penalty": "model"}}, "or from_model, found 'model'"),
        ({"prompt": "upstream"}, "field prompt.preset: expected 'upstream-luogu' or"),
        ({"prompt": {"template": "Solve this."}}, "expected {statement} once, it stands there 0"),
        ({"prompt": {"preset": "upstream-luogu", "system": "x"}}, "has its own system and"),
        ({"suite": "a\0b"}, "suite: a path cannot hold the character NUL"),
        ({"judge": {"testlib_path": "a" * 5000}}, "testlib_path: no path is that"),
        ({"arms": [7] * 12}, "; and 3 more"),
        ({"decoding": {"samples": 3}}, "greedy decoding writes one text"),
        ({"device": "tpu"}, "device"),
        ({"judge": {"standard": "c++77"}}, "allowed are c"),
    ],
)
def test_errors_name_file_and_field(tmp_path, changes, named):
    path = write(tmp_path / "wrong.yaml", **changes)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert named in str(caught.value)


@pytest.mark.parametrize("name", ["upstream-luogu", "upstream-codecontests"])
def test_a_presets_name_stands_for_its_texts(tmp_path, name):
    config = load_config(write(tmp_path / "c.yaml", prompt=name))
    assert config.prompt.preset == name and config.penalty_of_models
    texts = config.prompt.model_dump(exclude={"preset"})
    assert all(texts.values())
    written = load_config(write(tmp_path / "c.yaml", prompt=texts))
    assert deciding_fields(written) == deciding_fields(config)
    (tmp_path / "again.yaml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "again.yaml") == config
    chosen = write(tmp_path / "c.yaml", prompt=name, decoding={"repetition_penalty": 1})
    assert not load_config(chosen).penalty_of_models


def test_the_documented_settings_are_read(tmp_path):
    section = (REPOSITORY / "docs/suites.md").read_text().partition("## How a problem is asked")[2]
    shown = "".join(re.findall(r"^    .*\n", section, re.M)[:5])
    config = load_config(write(tmp_path / "c.yaml", **yaml.safe_load(shown)))
    assert config.prompt.system == "You write C++." and config.penalty_of_models
    assert config.prompt.user_message("S", None) == "Solve this problem.\n\nS"


def test_prompt_and_penalty_decide_records_where_they_are_given(fields):
    plain = fields()
    assert "prompt" not in plain and "repetition_penalty" not in plain["decoding"]
    assert plain == fields(prompt={"system": "default", "template": None})
    decoding = {**GOOD["decoding"], "repetition_penalty": 1}
    assert plain == fields(decoding=decoding)
    others = [{"prompt": {"system": s}} for s in ("none", "", "Write C++.")]
    others += [{"prompt": {"template": "{statement}"}}]
    others += [{"decoding": {**decoding, "repetition_penalty": 1.05}}]
    found = [fields(**other) for other in others]
    assert all(found.count(one) == 1 and one != plain for one in found)


@pytest.mark.parametrize("content", [b"a: [", b"- 1\n- 2\n", b"\xff\xfe", b""])
def test_files_that_are_no_mapping(tmp_path, content):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="c.yaml"):
        load_config(path)

"""The token level of tiny models, beside float64 models that share no code with it."""

import json
import shutil

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from safetensors.torch import load_file, save_file

from evaluator.errors import ModelError
from evaluator.generation.backends.transformers import TransformersBackend, TransformersModel
from evaluator.generation.checkpoints import find_checkpoint
from evaluator.generation.processes import Processes
from evaluator.store.records import repeats
from evaluator.tokens import stage as stage_module
from evaluator.tokens.stage import has_all_arms, spool_bytes, token_stage
from evaluator.tokens.texts import choose_texts
from exporter import ExportRequest, export
from tests.evaluator.conftest import write_artifact
from tests.evaluator.tokens.conftest import MAX_TOKENS, measure
from tests.evaluator.whole_runs import merged, two_arms
from tests.exporter.dense_reference import dense_logits, weights_of
from tests.exporter.test_failing_files import file_limit
from tinylora.errors import ScratchError
from tinylora.models.chat import load_tokenizer
from tinylora.models.token_divergence import kept

REPEATS = repeats("restored")


def texts_of(arguments):
    _, prepared, generations = arguments
    return choose_texts(
        "restored",
        prepared.prompts,
        {record.key: record for record in generations},
        load_tokenizer(prepared.checkpoints["base"].directory),
        prepared.config.decoding.max_new_tokens,
        prepared.config.token_level.max_tokens,
    )


def all_kl(records, arm):
    return torch.tensor([kl for one in records.values() if one.arm == arm for kl in one.kl])


def through_nf4(weights):
    """16-bit weights through nf4 and back."""
    for name, tensor in weights.items():
        if name.endswith("_proj.weight"):
            packed, state = quantize_4bit(
                tensor.to(torch.bfloat16), compress_statistics=True, quant_type="nf4"
            )
            weights[name] = dequantize_4bit(packed, state)
    return weights


def embedded_delta(directory):
    """Delta by weight name, from the LoRA factors of an export."""
    settings = json.loads((directory / "adapter_config.json").read_text())
    factors = load_file(directory / "adapter_model.safetensors")
    return {
        name.removeprefix("base_model.model.").replace("lora_A.", ""): (
            settings["lora_alpha"]
            / settings["r"]
            * (factors[name.replace("lora_A", "lora_B")].double() @ tensor.double())
        )
        for name, tensor in factors.items()
        if ".lora_A." in name
    }


@pytest.fixture(scope="module")
def logits(measured, chat_base):
    """By arm, a float64 model's logits at the compared positions of each text."""
    texts = texts_of(measured.arguments)
    checkpoints = measured.arguments[1].checkpoints
    base = through_nf4(load_file(chat_base / "model.safetensors"))
    delta = embedded_delta(checkpoints["embedded"].directory)
    assert len(delta) == 14
    restored = base | {name: base[name] + change for name, change in delta.items()}
    nf4 = weights_of(checkpoints["nf4"].directory)
    made = {}
    for name, weights in (("base", base), ("restored", restored), ("nf4", nf4)):
        found = dense_logits(chat_base, weights, [text.token_ids for text in texts])
        made[name] = [one[list(t.positions)] for one, t in zip(found, texts, strict=True)]
    return made


def test_divergences_are_those_of_float64_models(measured, logits):
    p = torch.cat(logits["restored"]).softmax(dim=1)
    for arm in ("base", "nf4"):
        q = torch.cat(logits[arm]).softmax(dim=1)
        expected = (p * (p / q).log()).sum(dim=1)
        found = all_kl(measured.records, arm)
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-9)
        same = sum(record.same for record in measured.records.values() if record.arm == arm)
        assert same == int((p.argmax(dim=1) == q.argmax(dim=1)).sum()) < MAX_TOKENS
        assert float(expected.mean()) > 1e-4


def test_shifts_of_logits_are_those_of_float64_models(measured, logits):
    for number, text in enumerate(texts_of(measured.arguments)):
        rows = [logits[name][number] - logits["base"][number] for name in ("restored", "nf4")]
        wanted, found = (x - x.mean(dim=1, keepdim=True) for x in rows)
        expected = (wanted * found).sum(dim=1) / wanted.norm(dim=1) / found.norm(dim=1)
        record = measured.records["nf4", text.problem, 0]
        cosine = torch.tensor(record.shift_cosine, dtype=torch.float64)
        torch.testing.assert_close(cosine, expected, rtol=0, atol=1e-3)
        signs = ((wanted > 0) == (found > 0)).double().mean()
        assert record.shift_signs == pytest.approx(float(signs), abs=3e-3)


def test_the_reference_and_its_equals_are_at_the_floor(measured):
    names = [*REPEATS, *(name for name in measured.arguments[1].checkpoints if name != "restored")]
    kl = {name: all_kl(measured.records, name) for name in names}
    assert {len(values) for values in kl.values()} == {MAX_TOKENS}
    assert bool((kl["again"] == 0).all())  # the same model in the same batches
    assert bool((kl[REPEATS.computed] == 0).all())  # a float32 run computes the same function
    assert float(kl[REPEATS.again].max()) < 1e-11
    assert 0 < float(kl[REPEATS.folded].max()) < 1e-10
    assert float(kl["embedded"].max()) < 1e-10 < 1e-4 < float(kl["base"].mean())
    assert torch.equal(kl["lost"], kl["base"])  # so its retention is exactly 0
    exact = {r.same == len(r.kl) for r in measured.records.values() if r.arm == "embedded"}
    assert exact == {True}
    shifts = {name: [] for name in names}
    for record in measured.records.values():
        shifts[record.arm].extend(record.shift_cosine)
    assert min(shifts["embedded"]) > 0.9999 and set(shifts["lost"]) == {0.0}
    assert shifts["base"] == shifts[REPEATS.again] == []


def test_records_are_in_order_and_the_bars_end(measured):
    arms = [arm.name for arm in measured.arguments[1].config.arms if arm.name != "restored"]
    names = [*REPEATS, *arms]
    expected = [(name, text.problem, 0) for name in names for text in texts_of(measured.arguments)]
    assert list(measured.records) == expected
    stages = dict.fromkeys(stage for stage, _, _ in measured.seen)
    assert list(stages) == [f"tokens {n}" for n in ("restored", *names)]
    for stage in stages:
        last = [event for event in measured.seen if event[0] == stage][-1]
        assert last[1] == last[2]
    assert not measured.arguments[0].spool.exists()


@pytest.fixture
def loads(monkeypatch):
    """Names of the arms whose models are loaded."""
    seen, load = [], stage_module.open_model

    def counted(arm, *arguments, **options):
        seen.append(arm.name)
        return load(arm, *arguments, **options)

    monkeypatch.setattr(stage_module, "open_model", counted)
    return seen


def test_a_file_cut_at_any_byte_is_completed_to_the_same(measured, setting, tmp_path, loads):
    """All that a SIGKILL can leave: a file cut anywhere, and any part of the reference's logits."""
    arguments = setting(shutil.copytree(measured.arguments[0].path, tmp_path / "out"))
    path, spool = arguments[0].token_level, arguments[0].spool
    before = path.read_bytes()
    path.write_bytes(before[: int(0.8 * len(before))])
    spool.mkdir()
    (spool / "0.safetensors").write_bytes(b"torn")
    measure(arguments)
    assert path.read_bytes() == before and not spool.exists()
    assert loads == ["restored", "base", "nf4", "lost"]  # the base's logits were lost too


def test_records_of_other_tokens_are_replaced(measured, setting, tmp_path, arms):
    out = shutil.copytree(measured.arguments[0].path, tmp_path / "out")
    arguments = setting(out, max_tokens=40, arms=arms[:2])
    records = measure(arguments)
    assert len(all_kl(records, "base")) == len(all_kl(records, REPEATS.again)) == 40
    assert {record.arm for record in records.values()} == {"base", *REPEATS}
    whole = {t.problem: t.digest for t in texts_of(arguments)}
    assert {r.problem: r.tokens_sha256 for r in records.values()} == whole


def test_what_a_run_computes_in_changes_only_its_own_row(measured, setting, tmp_path, arms):
    """Retention is of weights, so a run in bfloat16 says the same of them."""
    records = measure(setting(tmp_path / "out", arms=arms[:2], compute_dtype="bfloat16"))
    for name in ("base", REPEATS.again, REPEATS.folded):
        assert torch.equal(all_kl(records, name), all_kl(measured.records, name))
    assert float(all_kl(records, REPEATS.computed).mean()) > 1e-7


def test_arithmetic_that_cannot_be_read_has_no_row(setting, tmp_path, arms, monkeypatch):
    monkeypatch.setattr(TransformersBackend, "computes_logits", False)
    arguments = setting(tmp_path / "out", arms=arms[:2])
    records = measure(arguments)
    assert {record.arm for record in records.values()} == {"base", *REPEATS[:2]}
    assert has_all_arms(arguments[0], arguments[1].config)


def test_of_a_small_adapter_no_exact_export_is_lossy(setting, chat_base, tmp_path):
    """A vector of the size of real files."""
    artifact = write_artifact(tmp_path, 1e-4, "tiny/chat-base", 14)
    arms = two_arms(chat_base, artifact, load="nf4")
    arms.append({**arms[1], "name": "lora", "artifact": str(tmp_path / "lora")})
    for format in ("nf4-embedded", "fp32", "nf4", "lora"):
        export(ExportRequest(chat_base, artifact, tmp_path / format, format=format))
        if format != "lora":
            arms.append(merged(format, tmp_path / format))
    records = measure(setting(tmp_path / "out", arms=arms))
    mean = {r.arm: float(all_kl(records, r.arm).mean()) for r in records.values()}
    floor = max(mean[REPEATS.again], mean[REPEATS.folded])
    found = {name: kept(mean[name], mean["base"], floor) for name in mean}
    assert not any(found[name].loss_seen for name in ("lora", "nf4-embedded", "fp32"))
    assert min(found[name].at_least for name in ("lora", "nf4-embedded", "fp32")) > 0.9
    assert found["nf4"].loss_seen and found["nf4"].retention < 0.1


@pytest.mark.parametrize(
    ("written", "loaded"),
    [
        (("restored", "base", "again", "embedded", "nf4", "lost"), []),
        (("restored",), ["base", "again", "embedded", "nf4", "lost"]),  # of a run that goes on
        (("restored", "base", "nf4"), ["again", "embedded", "lost"]),
        (("base", "nf4"), ["restored", "restored", "base", "again", "embedded", "nf4", "lost"]),
    ],
)
def test_models_measured_while_they_write_are_not_loaded_again(
    setting, measured, tmp_path, loads, written, loaded
):
    arguments = setting(tmp_path / "out")
    assert measure(arguments, written=written) == measured.records
    assert loads == loaded
    files = [one[0].token_level.read_bytes() for one in (arguments, measured.arguments)]
    assert files[0] == files[1] and not arguments[0].spool.exists()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(), ModelError("logits are not finite")])
def test_what_fails_while_a_model_writes_is_measured_afterwards(
    setting, measured, tmp_path, loads, error, monkeypatch
):
    failures, predict = [error], TransformersModel.predict

    def failing_once(*arguments):
        if failures:
            raise failures.pop()
        return predict(*arguments)

    monkeypatch.setattr(TransformersModel, "predict", failing_once)
    records = measure(setting(tmp_path / "out"), written=("restored", "base"))
    assert records == measured.records and "restored" in loads


@pytest.mark.parametrize("changes", [{"compute_dtype": "bfloat16"}, {"enabled": False}])
def test_models_that_are_not_what_is_compared_are_loaded_for_it(setting, tmp_path, changes):
    directory, prepared, _ = setting(tmp_path / "out", **changes)
    with token_stage(directory, prepared, lambda *_: None) as stage:
        assert stage.while_writing(Processes()) is None


def test_nothing_is_done_where_it_is_off_or_has_no_reference(setting, tmp_path, arms, loads):
    off, alone = setting(tmp_path / "a", enabled=False), setting(tmp_path / "b", arms=arms[:1])
    for arguments in (off, alone):
        arguments[0].spool.mkdir()  # of a killed run: gigabytes
        measure(arguments)
        assert not arguments[0].token_level.exists() and loads == []
        assert not arguments[0].spool.exists()
        assert spool_bytes(arguments[1].config, arguments[1].checkpoints) == 0


def test_vocabularies_that_differ_are_refused_before_a_model_is_loaded(setting, tmp_path, arms):
    prepared = setting(tmp_path / "out")[1]
    config, checkpoints = prepared.config, prepared.checkpoints
    assert spool_bytes(config, checkpoints) == 2 * MAX_TOKENS * 64 * 4  # of hidden states
    other = find_checkpoint(config.arms[4])
    object.__setattr__(other, "vocabulary", 265)
    with pytest.raises(ModelError, match=r"arm nf4 has vocab_size 265, arm restored has 264"):
        spool_bytes(config, {**checkpoints, "nf4": other})


def test_a_full_disk_is_named_and_the_stage_goes_on_when_there_is_room(setting, measured, tmp_path):
    arguments = setting(tmp_path / "out")
    directory = arguments[0]
    shutil.copytree(measured.arguments[0].factors, directory.factors)
    with file_limit(3000), pytest.raises(ScratchError, match=r"tmp: .*File too large.*room"):
        measure(arguments)
    assert not directory.spool.exists()
    assert measure(arguments) == measured.records


def test_logits_that_are_not_numbers_are_refused(setting, tmp_path, arms, chat_base):
    broken = shutil.copytree(chat_base, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    arguments = setting(tmp_path / "out", arms=[{**arms[0], "model": str(broken)}, arms[1]])
    with pytest.raises(ModelError, match="arm base: the model's logits"):
        measure(arguments)
    assert not arguments[0].spool.exists()

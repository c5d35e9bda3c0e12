import copy
import json

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from lm import IFTConfig, IFTTrainer
from lm.lake import make_model, make_tokenizer
from lm.trainers.examples import NonFiniteLossError
from lm.trainers.forward import Residual, add_residual_forward
from lm.trainers.packing import sequences_with_labels


def make(kind, model, tokenizer, data, tmp_path, peft_config=None, **options):
    """A trainer of a copy of the model."""
    defaults = {
        "output_dir": str(tmp_path), "per_device_train_batch_size": 8, "max_steps": 6, "learning_rate": 3e-3,
        "logging_steps": 1, "report_to": "none", "use_cpu": True, "bf16": False, "save_strategy": "no",
        "gradient_checkpointing": False, "disable_tqdm": True,
    }  # fmt: skip
    args = (IFTConfig if kind is IFTTrainer else SFTConfig)(**(defaults | options))
    return kind(
        copy.deepcopy(model), args=args, train_dataset=data, processing_class=tokenizer, peft_config=peft_config
    )


def logged(trainer, name="loss"):
    return [row[name] for row in trainer.state.log_history if name in row and "train_runtime" not in row]


def loss_of(trainer, rows):
    """The trainer's own loss of some rows, as in a training step."""
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer.compute_loss(trainer.model, trainer.data_collator([trainer.train_dataset[i] for i in rows]))


def test_the_embedding_gets_its_gradient_through_the_mix(model, tokenizer, sums, tmp_path):
    """Tokens that are predicted and stand nowhere in the input get one too."""
    trainer = make(IFTTrainer, model, tokenizer, sums, tmp_path, lam=1.0)
    inputs = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    inputs.pop("example_id")
    trainer.model.train()
    outputs = trainer.model(**inputs, residual=Residual(1.0))
    labels = inputs["labels"]
    mask = (labels[:, 1:-1] != -100) & (labels[:, 2:] != -100)  # the last answer token is the input of nothing
    only_predicted = set(outputs.predicted[:, :-1][mask].tolist()) - set(inputs["input_ids"].flatten().tolist())
    assert only_predicted
    outputs.log_probs.sum().backward()
    gradient = trainer.model.get_input_embeddings().weight.grad
    assert all(gradient[token].abs().sum() > 0 for token in only_predicted)


def test_switched_off_it_is_sft_to_the_last_digit(model, tokenizer, sums, tmp_path):
    off = make(IFTTrainer, model, tokenizer, sums, tmp_path, lam=0.0, gamma=0.0, loss_average="token")
    sft = make(SFTTrainer, model, tokenizer, sums, tmp_path)
    off.train()
    sft.train()
    assert logged(off) == logged(sft)
    for one, other in zip(off.model.parameters(), sft.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_without_mixing_and_propagation_the_loss_is_the_mean_of_sequence_means(model, tokenizer, sums, tmp_path):
    trainer = make(IFTTrainer, model, tokenizer, sums, tmp_path, lam=0.0, gamma=0.0)
    alone = [loss_of(trainer, [i]).item() for i in range(4)]
    assert loss_of(trainer, range(4)).item() == pytest.approx(sum(alone) / 4, rel=1e-5)


@pytest.mark.parametrize("prediction", ["greedy", "sampled", "expected"])
def test_it_trains_and_says_how_it_goes(model, tokenizer, sums, tmp_path, prediction):
    trainer = make(IFTTrainer, model, tokenizer, sums, tmp_path, prediction=prediction, max_steps=40)
    trainer.train()
    for name in ("loss", "sft_loss", "mixed_loss", "lam", "prediction_accuracy", "entropy", "num_tokens"):
        assert len(logged(trainer, name)) == 40
    assert len(logged(trainer, "tokens_per_second")) == 39  # the first interval holds the start-up
    assert sum(logged(trainer, "sft_loss")[-5:]) < 0.8 * sum(logged(trainer, "sft_loss")[:5])


def test_lagged_predictions_are_those_of_the_previous_epoch(model, tokenizer, sums, tmp_path):
    """Without updates each epoch's predictions are the first one's: pass 1 of greedy says the same."""
    options = {"max_steps": 16, "learning_rate": 1e-30, "lam": 0.5}
    runs = [make(IFTTrainer, model, tokenizer, sums, tmp_path, prediction=p, **options) for p in ("greedy", "lagged")]
    for run in runs:
        run.train()
    greedy, lagged = (logged(run, "mixed_loss") for run in runs)
    assert lagged == pytest.approx(greedy, rel=1e-6)
    assert len(logged(runs[1], "sft_loss")) == 8  # 64 examples in batches of 8: pass 1 runs in the first epoch only
    assert len(runs[1]._predictions.tokens) == 64


def test_lagged_predictions_survive_a_resume(model, tokenizer, sums, tmp_path):
    options = {"save_strategy": "steps", "save_steps": 11, "prediction": "lagged", "max_steps": 20, "lam": 0.5}
    whole = make(IFTTrainer, model, tokenizer, sums, tmp_path, **options)
    whole.train()
    resumed = make(IFTTrainer, model, tokenizer, sums, tmp_path, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-11"))
    assert logged(resumed)[-9:] == pytest.approx(logged(whole)[-9:], rel=1e-6)
    assert len(logged(resumed, "sft_loss")) == 8


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(model, tokenizer, sums, tmp_path):
    with torch.no_grad():
        model.model.embed_tokens.weight[tokenizer.convert_tokens_to_ids("9")] = float("nan")
    trainer = make(IFTTrainer, model, tokenizer, sums, tmp_path, per_device_train_batch_size=2)
    with pytest.raises(NonFiniteLossError, match="the loss is nan at step"):
        trainer.train()
    report = json.loads((tmp_path / "nonfinite-loss-0.json").read_text())
    assert report["step"] == trainer.state.global_step
    nine = tokenizer.convert_tokens_to_ids("9")
    assert any(nine in trainer.train_dataset[i]["input_ids"] for i in report["example_id"])
    assert len(report["example_id"]) == 2


def test_gradient_accumulation_changes_nothing(model, tokenizer, sums, tmp_path):
    options = {"max_steps": 3, "train_sampling_strategy": "sequential", "learning_rate": 1e-3}
    whole = make(IFTTrainer, model, tokenizer, sums, tmp_path, **options)
    halves = make(
        IFTTrainer, model, tokenizer, sums, tmp_path,
        per_device_train_batch_size=4, gradient_accumulation_steps=2, **options,
    )  # fmt: skip
    whole.train()
    halves.train()
    assert logged(whole) == pytest.approx(logged(halves), rel=1e-4)


def test_unequal_micro_batches_weigh_sequences_alike(model, tokenizer, sums, tmp_path):
    """Nine sequences as eight and one are nine sequences."""
    rows = sums.select(range(9))
    options = {"max_steps": 1, "gamma": 0.5, "train_sampling_strategy": "sequential"}
    whole = make(IFTTrainer, model, tokenizer, rows, tmp_path, per_device_train_batch_size=9, **options)
    parts = make(IFTTrainer, model, tokenizer, rows, tmp_path, gradient_accumulation_steps=2, **options)
    whole.train()
    parts.train()
    assert logged(parts) == pytest.approx(logged(whole), rel=1e-5)


def test_packed_sequences_with_labels_are_counted():
    labels = torch.tensor([[-100, 5, -100, 6, -100, -100]])
    positions = torch.tensor([[0, 1, 0, 1, 0, 1]])
    assert sequences_with_labels({"labels": labels, "position_ids": positions}) == 2
    assert sequences_with_labels({"labels": labels}) == 1


def test_left_padding_equals_right_padding(model, tokenizer, sums, tmp_path):
    trainer = make(IFTTrainer, model, tokenizer, sums, tmp_path)
    right = trainer.data_collator([trainer.train_dataset[i] for i in range(6)])
    left = {key: torch.stack([_rolled(row, mask) for row, mask in zip(value, right["attention_mask"], strict=True)])
            for key, value in right.items()}  # fmt: skip
    left["position_ids"] = (left["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    assert not torch.equal(left["input_ids"], right["input_ids"])
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    left_loss, right_loss = (trainer.compute_loss(trainer.model, dict(inputs)) for inputs in (left, right))
    assert left_loss.item() == pytest.approx(right_loss.item(), rel=1e-5)


def _rolled(row, mask):
    return row.roll(int((mask == 0).sum()))


def test_packed_sequences_do_not_touch_each_other(model, tokenizer, sums, tmp_path):
    """The mean loss of a packed row is the mean of the losses of its sequences alone."""
    plain = make(IFTTrainer, model, tokenizer, sums, tmp_path)
    inputs = [plain.data_collator([plain.train_dataset[i]]) for i in range(4)]
    packed = {key: torch.cat([one[key] for one in inputs], dim=1) for key in ("input_ids", "labels")}
    packed["position_ids"] = torch.cat([torch.arange(one["input_ids"].shape[1]) for one in inputs])[None]
    packed["labels"][packed["position_ids"] == 0] = -100
    plain.current_gradient_accumulation_steps = 1
    plain.model.train()
    together = plain.compute_loss(plain.model, packed)
    assert together.item() == pytest.approx(loss_of(plain, range(4)).item(), rel=1e-5)


def test_lora_trains_adapters_only_and_gradient_checkpointing_changes_nothing(model, tokenizer, sums, tmp_path):
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    runs = [
        make(IFTTrainer, model, tokenizer, sums, tmp_path, peft_config=lora, gradient_checkpointing=checkpointing)
        for checkpointing in (False, True)
    ]
    runs[1].model.load_state_dict(runs[0].model.state_dict())
    before = copy.deepcopy(runs[0].model.state_dict())
    for run in runs:
        run.train()
    assert logged(runs[0]) == pytest.approx(logged(runs[1]), rel=1e-5)
    changed = {name for name, value in runs[0].model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all("lora" in name for name in changed)


def test_tied_embeddings_and_capped_logits(tokenizer, sums, tmp_path):
    """Gemma 2 ties its embeddings, scales them and caps its logits: pass 1 must say what the model says."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    model = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, head_dim=8,
            num_attention_heads=4, num_key_value_heads=2, final_logit_softcapping=2.0, attn_implementation="eager",
            pad_token_id=0, eos_token_id=1, bos_token_id=None,
        )
    )  # fmt: skip
    trainer = make(IFTTrainer, model, tokenizer, sums, tmp_path)
    inputs = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    trainer.model.train()
    outputs = trainer.model(**inputs, residual=Residual(0.2))
    labels = inputs["labels"]
    logits = trainer.model(**{k: v for k, v in inputs.items() if k != "labels"}).logits.log_softmax(-1)[:, :-1]
    expected = logits.gather(-1, labels[:, 1:].clamp(min=0).unsqueeze(-1)).squeeze(-1) * (labels[:, 1:] >= 0)
    torch.testing.assert_close(outputs.plain_log_probs, expected, rtol=1e-4, atol=1e-5)
    loss_of(trainer, [0, 1]).backward()
    assert trainer.model.lm_head.weight is trainer.model.get_input_embeddings().weight


def test_chat_data_with_several_turns_and_assistant_only_loss(tmp_path):
    """TRL's own data path: messages, a template with generation markers."""
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% for turn in messages %}<|{{ turn.role }}|> {% if turn.role == 'assistant' %}{% generation %}"
        "{{ turn.content + ' ' + eos_token }}{% endgeneration %}{% else %}{{ turn.content }}{% endif %}"
        "{{ ' ' }}{% endfor %}"
    )
    turns = [("user", "S F"), ("assistant", "left"), ("user", "F G"), ("assistant", "up down")]
    messages = [{"role": role, "content": content} for role, content in turns]
    data = Dataset.from_list([{"messages": messages}] * 8)
    trainer = make(
        IFTTrainer, make_model(tokenizer, 0), tokenizer, data, tmp_path, assistant_only_loss=True, max_steps=2
    )
    labels = trainer.train_dataset[0]["labels"]
    ids = trainer.train_dataset[0]["input_ids"]
    said = [(token, label != -100) for token, label in zip(tokenizer.convert_ids_to_tokens(ids), labels, strict=True)]
    assert [token for token, trained in said if trained] == ["left", "<eos>", "up", "down", "<eos>"]
    trainer.train()
    assert len(logged(trainer, "sft_loss")) == 2


def test_models_that_scale_their_logits_are_refused_by_name(model):
    model.config.logit_scale = 0.5
    with pytest.raises(ValueError, match="'mistral' scales its logits"):
        add_residual_forward(model)


def test_dropout_is_off_in_pass_1_only(model, tokenizer, sums, tmp_path):
    model.config.attention_dropout = 0.5
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    trainer = make(IFTTrainer, model, tokenizer, sums, tmp_path)
    inputs = trainer.data_collator([trainer.train_dataset[0]])
    trainer.model.train()
    one, other = (trainer.model(**inputs, residual=Residual(0.2)) for _ in range(2))
    assert torch.equal(one.plain_log_probs, other.plain_log_probs)
    assert not torch.equal(one.log_probs, other.log_probs)
    assert all(module.training for module in trainer.model.modules())


def test_a_row_without_labels_costs_nothing(model, tokenizer, sums, tmp_path):
    trainer = make(IFTTrainer, model, tokenizer, sums, tmp_path)
    inputs = trainer.data_collator([trainer.train_dataset[i] for i in (0, 1)])
    inputs["labels"][1] = -100
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    assert trainer.compute_loss(trainer.model, inputs).item() == pytest.approx(loss_of(trainer, [0]).item(), rel=1e-5)


def test_a_resumed_training_sees_the_same_losses(model, tokenizer, sums, tmp_path):
    options = {"save_strategy": "steps", "save_steps": 3, "min_lam": 0.0, "warmup_steps": 4, "lam_jitter": 0.5,
               "prediction": "sampled"}  # fmt: skip
    whole = make(IFTTrainer, model, tokenizer, sums, tmp_path, **options)
    whole.train()
    resumed = make(IFTTrainer, model, tokenizer, sums, tmp_path, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert logged(resumed)[-3:] == pytest.approx(logged(whole)[-3:], rel=1e-6)
    assert logged(whole, "lam")[0] == 0


def test_evaluation_reports_the_loss_of_sft(model, tokenizer, sums, tmp_path):
    reports = []
    for kind in (IFTTrainer, SFTTrainer):
        trainer = make(kind, model, tokenizer, sums, tmp_path)
        reports.append(trainer.evaluate(trainer.train_dataset)["eval_loss"])
    assert reports[0] == reports[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": 1.2}, "lam must lie in"),
        ({"gamma": -0.1}, "gamma must lie in"),
        ({"min_lam": 2.0}, "min_lam must lie in"),
        ({"lam_jitter": -1.0}, "jitter must lie in"),
        ({"form": "both"}, "form must be one of product, sum"),
        ({"prediction": "beam"}, "prediction must be one of"),
        ({"prediction_top_k": 0}, "prediction_top_k must be at least 1"),
        ({"prediction": "lagged", "packing": True}, "prediction='lagged' needs one example per row"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor must be 0"),
        ({"loss_average": "batch"}, "loss_average must be one of"),
    ],
)
def test_bad_options_are_refused_by_name(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        IFTConfig(output_dir=str(tmp_path), **options)


def test_a_plain_sft_config_is_refused(model, tokenizer, sums, tmp_path):
    with pytest.raises(ValueError, match="args must be an IFTConfig"):
        IFTTrainer(model, args=SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False), train_dataset=sums)

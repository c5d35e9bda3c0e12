"""Every option acts, or is refused, or is said not to act; what is refused leaves nothing behind."""

import pytest
import torch

from lm.train import __main__ as train
from lm.train import acting, checks
from lm.train.command_line import parse
from tests.calling import exit_code


@pytest.fixture
def command(saved_model, jsonl, tmp_path):
    return ["--model", str(saved_model), "--dataset", str(jsonl), "--max-length", "64", "--chat-template", "none",
            "--max-steps", "6", "--output-dir", str(tmp_path / "out")]  # fmt: skip


def call(monkeypatch, arguments):
    return exit_code(train.main, monkeypatch, arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "ift", "--beta", "0.3"], "beta does not act with ift"),
        (["--method", "dpo", "--lam", "0.3"], "lam does not act with dpo"),
        (["--method", "dpo", "--margin", "0.3"], "margin does not act with dpo"),
        (["--method", "sft", "--prediction", "lagged"], "prediction does not act with sft"),
        (["--method", "ift", "--form", "sum", "--norm", "L2"], "norm does not act with form sum"),
        (["--method", "ift", "--prediction-top-k", "3"], "prediction_top_k does not act with prediction greedy"),
        (["--method", "ift", "--first-predictions", "none"], "first_predictions does not act with prediction greedy"),
        (["--method", "scheduled", "--form", "sum"], "form does not act with scheduled"),
        (["--method", "scheduled", "--gamma", "0.5"], "gamma does not act with scheduled"),
        (["--method", "scheduled", "--prediction-top-k", "3"], "prediction_top_k does not act with prediction greedy"),
        (["--lora-alpha", "32"], "lora_alpha does not act without lora_r"),
        (["--method", "dpo", "--lora-r", "4", "--lora-dropout", "0.1"], "lora_dropout does not act with dpo, where"),
        (["--devices", "4"], "devices does not act without dry_run"),
        (["--max-steps", "3", "--num-train-epochs", "2"], "num_train_epochs does not act beside max_steps"),
        (["--lr-scheduler-type", "constant", "--warmup-steps", "3"], "warmup_steps does not act with the schedule"),
    ],
)
def test_an_option_that_does_nothing_is_said(arguments, sentence):
    told = acting.idle_options(parse(arguments))
    assert any(line.startswith(sentence) for line in told), told


def test_options_that_act_are_not_complained_of():
    for arguments in (["--method", "ift", "--lam", "0.3", "--gamma", "0.5"], ["--method", "dpo", "--beta", "0.3"],
                      ["--method", "simpo", "--margin", "0.3"], ["--lora-r", "4", "--lora-dropout", "0.1"],
                      ["--method", "kto", "--lora-r", "4", "--lora-dropout", "0.1", "--trainer",
                       "disable_dropout=false"], ["--lora-r", "4", "--lora-alpha", "8"],
                      ["--method", "scheduled", "--prediction", "sampled", "--min-lam", "0.1", "--lam-jitter", "0.1",
                       "--loss-average", "token"],
                      ["--lr-scheduler-type", "constant", "--min-lam", "0.1", "--warmup-steps", "3"], []):  # fmt: skip
        assert acting.idle_options(parse(arguments)) == []


@pytest.mark.parametrize(
    ("method", "option"),
    [
        ("sft", "completion_only_loss=false"), ("sft", "model_init_kwargs={}"),
        ("ift", "gradient_accumulation_steps=1"),
        ("ift", "eval_on_start=true"), ("ift", "label_smoothing_factor=0.1"), ("orpo", "loss_weights=[2]"),
        ("orpo", "precompute_ref_log_probs=true"), ("dpo", "ddp_backend=nope"), ("dpo", "bf16=true"),
        ("ift", "bf16_full_eval=true"), ("sft", "push_to_hub=true"), ("sft", "eval_packing=true"),
        ("sft", "run_name=mine"), ("sft", "ddp_timeout=9"), ("sft", "optim_args=alpha=0.9"), ("sft", "project=mine"),
        ("dpo", "f_alpha_divergence_coef=0.3"), ("dpo", "f_divergence_type=nope"), ("kto", "data_seed=9"),
        ("kto", "train_sampling_strategy=sequential"), ("orpo", "f_divergence_type=js_divergence"),
        ("dpo", "sync_ref_model=true"), ("sft", "torch_empty_cache_steps=1"), ("ift", "activation_offloading=true"),
        ("sft", "dataloader_in_order=false"), ("sft", "save_on_each_node=true"),
    ],
)  # fmt: skip
def test_an_option_of_trls_that_does_nothing_is_refused(method, option, command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    lora = ["--lora-r", "2"] if option == "sync_ref_model=true" else []
    assert call(monkeypatch, [*command, "--method", method, "--trainer", option, *lora]) == 2
    assert f"trainer: '{option.split('=')[0]}' cannot be set: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--report-to", "tensorboard"], "report_to 'tensorboard' needs a package that is not installed: pip install"),
        (["--report-to", ""], "report_to '' is unknown: known are"),
        (["--report-to", "wandbb"], "report_to 'wandbb' is unknown: did you mean 'wandb'?"),
        (["--lr-scheduler-type", "="], "lr_scheduler_type '=' is unknown: known are linear, cosine"),
        (["--optim", "adamm"], "optim 'adamm' is unknown: did you mean"),
        (["--optim", "adamw_8bit"], "optim 'adamw_8bit' cannot be made here"),
        (["--trainer", "dataloader_num_workers=-1"], "num_workers"),
        (["--trainer", "use_liger_kernel=true"], "'use_liger_kernel' needs a GPU and a package of its own"),
        (["--optim", "sgd", "--trainer", "adam_beta1=0.5"], "'adam_beta1' cannot be set: it does nothing with optim"),
        (["--eval-steps", "2"], "eval_steps needs held-out data: name it with --eval-dataset"),
        (["--early-stopping", "2"], "early_stopping must be 0 without eval_steps"),
        (["--method", "kto", "--trainer", "loss_type=dft"], "'loss_type' follows from the command's own options"),
        (["--method", "dpo", "--trainer", "ld_alpha=x"], "trainer: 'ld_alpha' must be a number, got 'x'"),
        (["--method", "kto", "--trainer", "desirable_weight=true"], "'desirable_weight' must be a number, got 'True'"),
        (["--trainer", "disable_tqdm=x"], "'disable_tqdm' cannot be set"),
        (["--trainer", "full_determinism=x"], "trainer: 'full_determinism' must be true or false, got 'x'"),
        (["--trainer", "accelerator_config='{x'"], "trainer: accelerator_config cannot be set so (Expecting"),
        (["--trainer", "accelerator_config=nowhere.json"], "trainer: IFTConfig refuses its options ([Errno 2]"),
        (["--method", "dpo", "--method-numbers", "label_smoothing=0.1"], "has no number 'label_smoothing' here, as"),
        (["--method", "simpo", "--margin", "1e400"], "margin must be a finite number"),
        (["--neftune-noise-alpha", "1e400"], "neftune_noise_alpha must be a finite number"),
        (["--seed", "99999999999999999999"], "seed must be in [0, 2**32 − 1]"),
        (["--seeds", "1", "1"], "seeds must be distinct numbers"),
        (["--max-steps", "0"], "max_steps must be above 0, or -1 for none"),
        (["--attention", "nope"], "attention 'nope' cannot be had here"),
        (["--trainer", "adam_beta1=2"], "trainer: adam_beta1 cannot be set so with optim"),
        (["--trainer", "lr_scheduler_kwargs={bad: 1}"], "trainer: 'lr_scheduler_kwargs' does not fit the schedule"),
        (["--method", "sft", "--trainer", "pad_to_multiple_of=-8"], "'pad_to_multiple_of' must be at least 1, got -8"),
        (["--lora-r", "2", "--lora-target-modules", "q_pro"], "is no layer of the model: did you mean 'q_proj'?"),
        (["--lora-r", "2", "--lora-target-modules", ""], "lora_target_modules must be all-linear or names of layers"),
        (["--lora-r", "2", "--modules-to-save", "nope"], "modules_to_save 'nope' is no layer of the model: its layers"),
        (["--columns", "prompt=x", "prompt=y"], "columns: 'prompt' is given twice, as 'x' and as 'y'"),
        (["--columns", "prompt"], "columns must be OURS=THEIRS"),
        (["--method", "kto", "--per-device-train-batch-size", "1"], "the method needs prompt, chosen, rejected, or"),
    ],
)
def test_refused_in_a_line_with_nothing_left(arguments, message, command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checks, "get_available_reporting_integrations", list)
    assert call(monkeypatch, [*command, *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_batch_that_is_never_full_is_refused(command, tmp_path, monkeypatch, capsys):
    few = tmp_path / "few.jsonl"
    few.write_text('{"prompt": "1+1=", "completion": "2"}\n' * 2)
    place = command.index("--dataset") + 1
    arguments = [*command[:place], few, *command[place + 1 :], "--trainer", "dataloader_drop_last=true"]
    assert call(monkeypatch, arguments) == 2
    assert "'dataloader_drop_last' leaves no batch: there are 2 examples" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_schedules_and_optimisers_that_can_be_made_are_taken(command, tmp_path, monkeypatch):
    arguments = ["--max-steps", "1", "--lr-scheduler-type", "cosine_with_restarts", "--trainer", "adam_beta1=0.8",
                 "lr_scheduler_kwargs={num_cycles: 2}", "--lora-r", "2", "--modules-to-save", "lm_head",
                 "--lora-target-modules", "q_proj, v_proj"]  # fmt: skip
    assert call(monkeypatch, [*command, *arguments]) == 0
    assert (tmp_path / "out" / "model").is_dir()

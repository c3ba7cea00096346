"""Run files that the tests read."""

from __future__ import annotations

RUN = """\
run_id: tic-tac-toe
target_model: player
reward_function: {name: position_value}
trajectory_builder:
  _type: dpo_traj_builder
  ttc_step_name: dpo_candidate_move
  exhaustive_pairs: false
  min_score_diff: 0.01
  turn_timeout: 30s
curriculum_learning: {enabled: true, initial_percentile: 0.6, increment_percentile: 0.2}
batching: {window_pairs: 384, max_wait: 60s, validation_fraction: 0.1}
trainer:
  _type: trl
  objective: dpo
  max_policy_lag: 4
  model: {hf_model_ckpt: models/tiny, quantize: false}
  lora: {r: 8, lora_alpha: 16, target_modules: all-linear}
  training:
    training_args: {learning_rate: 3.0e-3, num_train_epochs: 2, per_device_train_batch_size: 64}
    dpo_args: {beta: 0.5}
evaluation: {min_margin: 0.0}
serving: [{url: "http://localhost:8000"}]
"""

SMALLEST = "run_id: small\ntrainer: {model: {hf_model_ckpt: models/tiny}}\n"

TOOLKIT = """\
llms:
  player: {_type: nim, model_name: x}
workflow: {_type: game}
finetuning:
  enabled: true
  trainer: customizer
  trajectory_builder: pairs
  trainer_adapter: customizer_adapter
  reward_function: {name: position_value}
  target_model: player
  num_epochs: 5
  run_configuration: {dataset: games.json}
trajectory_builders:
  pairs:
    _type: dpo_traj_builder
    custom_step_name: dpo_candidate_move
    min_score_diff: 0.01
    max_pairs_per_turn: 5
trainers:
  customizer: {_type: nemo_customizer_trainer, num_runs: 3, max_pairs: 100}
trainer_adapters:
  customizer_adapter:
    _type: nemo_customizer_trainer_adapter
    entity_host: http://nemo/
    datastore_host: http://data
    hf_token: ${HF_TOKEN}
    namespace: games
    customization_config: meta/llama@v1
"""

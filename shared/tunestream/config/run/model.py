"""The base model, its quantisation, LoRA and generation: the experiment toolkit's sections."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tunestream.config.run.section import Section

__all__ = ["BitsAndBytesConfig", "ComputeDtype", "Dtype", "InferenceConfig", "LoraConfig", "ModelConfig"]

ComputeDtype = Literal["float32", "float16", "bfloat16"]
Dtype = Literal["auto", "float32", "float16", "bfloat16"]


class BitsAndBytesConfig(Section):
    """Quantised loading; counts only with ``model.quantize``."""

    load_in_8bit: bool = False
    llm_int8_threshold: float = 6.0
    llm_int8_skip_modules: list[str] | None = None
    llm_int8_enable_fp32_cpu_offload: bool = False
    llm_int8_has_fp16_weight: bool = False
    load_in_4bit: bool = True
    """By default the opposite of `load_in_8bit`."""
    bnb_4bit_compute_dtype: ComputeDtype = "bfloat16"
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    bnb_4bit_use_double_quant: bool = True

    @model_validator(mode="before")
    @classmethod
    def _eight_bits_are_not_four(cls, values: Any) -> Any:
        if isinstance(values, dict) and "load_in_4bit" not in values:
            return {**values, "load_in_4bit": not values.get("load_in_8bit", False)}
        return values

    @model_validator(mode="after")
    def _one_of_both(self) -> BitsAndBytesConfig:
        if self.load_in_8bit == self.load_in_4bit:
            raise ValueError("set one of load_in_8bit and load_in_4bit; unquantised is model.quantize: false")
        return self


class ModelConfig(Section):
    """The base model."""

    hf_model_ckpt: str = Field(min_length=1)
    """A folder, or a name on the Hugging Face hub."""
    device_map: str | None = "auto"
    """`none` leaves the placement to the trainer."""
    torch_dtype: Dtype = "auto"
    attn_implementation: str | None = None
    quantize: bool = False
    """Load with the settings of `bitsandbytes`; false means unquantised, and they are ignored."""
    bitsandbytes: BitsAndBytesConfig | None = None

    @field_validator("device_map")
    @classmethod
    def _none_is_none(cls, value: str | None) -> str | None:
        return None if value is not None and value.lower() == "none" else value

    @property
    def quantization(self) -> BitsAndBytesConfig | None:
        """How the weights are quantised; None when they are not."""
        return (self.bitsandbytes or BitsAndBytesConfig()) if self.quantize else None


class LoraConfig(Section):
    """Low-rank adapters; ``lora: null`` trains all weights."""

    r: int = Field(default=8, ge=1)
    task_type: Literal["CAUSAL_LM"] = "CAUSAL_LM"
    lora_alpha: int = Field(default=16, ge=1)
    bias: Literal["none", "all", "lora_only"] = "none"
    lora_dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    target_modules: list[str] | str = "all-linear"
    """`all-linear`, or names of modules; text of another kind is a regular expression over names."""
    fan_in_fan_out: bool = False
    modules_to_save: list[str] | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: str | None = None


class InferenceConfig(Section):
    """How answers are generated, in the names of transformers' GenerationConfig."""

    max_length: int | None = Field(default=None, ge=1)
    max_new_tokens: int | None = Field(default=None, ge=1)
    min_length: int = Field(default=0, ge=0)
    min_new_tokens: int | None = Field(default=None, ge=0)
    early_stopping: bool | str = False
    max_time: float | None = Field(default=None, gt=0)
    """Seconds."""
    do_sample: bool = False
    num_beams: int = Field(default=1, ge=1)
    num_beam_groups: int = Field(default=1, ge=1)
    penalty_alpha: float | None = None
    use_cache: bool = True
    temperature: float = Field(default=1.0, ge=0.0)
    top_k: int = Field(default=50, ge=0)
    top_p: float = Field(default=1.0, ge=0.0, le=1.0)
    typical_p: float = Field(default=1.0, ge=0.0, le=1.0)
    epsilon_cutoff: float = Field(default=0.0, ge=0.0, le=1.0)
    eta_cutoff: float = Field(default=0.0, ge=0.0, le=1.0)
    diversity_penalty: float = 0.0
    repetition_penalty: float = Field(default=1.0, gt=0.0)
    encoder_repetition_penalty: float = Field(default=1.0, gt=0.0)
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = Field(default=0, ge=0)
    bad_words_ids: list[list[int]] | None = None
    force_words_ids: list[list[int] | list[list[int]]] | None = None
    renormalize_logits: bool = False

"""The data of an experiment: where it is, and what becomes prompt and answer."""

from __future__ import annotations

from string import Formatter
from typing import Any, Final, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from tunestream.config.experiment.row_format import RowFormat
from tunestream.config.run.section import Section

__all__ = ["DataConfig", "StreamConfig", "columns_of"]

_TEMPLATES: Final = ("prompt", "prompt_stub", "messages", "chosen", "rejected")


def columns_of(template: str | None) -> tuple[str, ...]:
    """Return the names in a template's braces, each once, in order.

    Raises:
        ValueError: when the braces are not those of a template of names.
    """
    if template is None:
        return ()
    names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    if not all(name.isidentifier() or _plain(name) for name in names):
        raise ValueError("may hold only names of columns in braces; write {{ and }} for braces themselves")
    return tuple(dict.fromkeys(names))


def _plain(name: str) -> bool:
    return bool(name) and not any(sign in name for sign in "[]")


class StreamConfig(Section):
    """Trajectories of a run, as the examples of an experiment."""

    run_id: str = Field(min_length=1)
    topic: Literal["trajectories"] = "trajectories"
    start: int = Field(default=0, ge=0)
    """First offset that is read, in the partition of the run."""
    end: int | None = Field(default=None, ge=1)
    """Offset before which reading ends; by default the partition's end as of now."""

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"end {self.end} must lie behind start {self.start}")
        return self


class DataConfig(Section):
    """Where the examples are, and what becomes prompt and answer."""

    file_type: Literal["json", "jsonl", "csv", "tsv", "parquet", "huggingface", "stream"] | None = None
    """By default from the ending of `path`, and `huggingface` for a folder; a name on the hub needs it."""
    path: str | None = Field(default=None, min_length=1)
    """A file, which may be gzipped, a folder with a Hugging Face dataset, or its name on the hub."""
    format: RowFormat | None = None
    """What the columns are. By default from their names, when no template below names them."""
    revision: str | None = None
    """Of a dataset on the hub: a branch, tag or commit."""
    stream: StreamConfig | None = None
    prompt: str | None = None
    """Template, columns in `{}`."""
    prompt_stub: str | None = None
    """Template of the answer, of exactly one column: the ground truth."""
    messages: str | None = None
    """Column with chat messages, instead of `prompt` and `prompt_stub`; the last one is the answer."""
    chosen: str | None = None
    """Template of the preferred answer, for `dpo` and `kto`."""
    rejected: str | None = None
    """Template of the other answer."""
    train_size: float | int = Field(default=0.9, gt=0)
    """Share of the rows, or their number."""
    test_size: float | int = Field(default=0.1, ge=0)
    """Share of the rows, or their number."""
    validation_size: float | int = Field(default=0, ge=0)
    """Rows beside both whose loss is taken before and after the training; a share, or their number."""
    train_test_split_seed: int = Field(default=42, ge=0)
    stratify_by: str | None = None
    """Column whose values have the same share in each part."""
    group_by: str | None = None
    """Column whose values are never spread over parts."""
    deduplicate: bool = False
    """Keep the first of equal rows; otherwise they are only reported."""

    @field_validator("prompt", "prompt_stub", "chosen", "rejected")
    @classmethod
    def _is_template(cls, value: str | None) -> str | None:
        columns_of(value)
        return value

    @field_validator("prompt_stub")
    @classmethod
    def _one_column(cls, value: str | None) -> str | None:
        if value is not None and len(columns_of(value)) != 1:
            raise ValueError("must name exactly one column in braces, e.g. '{output}': the ground truth")
        return value

    @field_validator("train_size", "test_size", "validation_size")
    @classmethod
    def _share_or_number(cls, value: float) -> float | int:
        if value > 1 and value != int(value):
            raise ValueError("must be a whole number of rows, or a share from 0 to 1")
        return int(value) if value > 1 else value

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if (self.file_type == "stream") != (self.stream is not None) and self.file_type is not None:
            raise ValueError("file_type: stream and the section 'stream' go together")
        if (self.path is None) == (self.stream is None):
            raise ValueError("needs either path, or the section 'stream'")
        return self

    @model_validator(mode="after")
    def _has_answers(self) -> Self:
        if self.stream is not None:
            return self._nothing_beside_the_stream()
        given = [name for name in _TEMPLATES if getattr(self, name) is not None]
        if self.format is not None and given:
            raise ValueError(f"{', '.join(given)}: format {self.format} has its own columns; keep one")
        if not given:
            return self
        if (self.chosen is None) != (self.rejected is None):
            raise ValueError("chosen and rejected go together")
        if self.chosen is not None and self.prompt_stub is not None:
            raise ValueError("prompt_stub does nothing beside chosen and rejected; remove it")
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("needs either prompt (a template), or messages (a column)")
        if self.messages is not None and self.prompt_stub is not None:
            raise ValueError("prompt_stub does nothing beside messages, whose last one is the answer")
        if self.messages is None and self.chosen is None and self.prompt_stub is None:
            raise ValueError("prompt needs prompt_stub, the answer's template, or chosen and rejected")
        return self

    def _nothing_beside_the_stream(self) -> Self:
        given = [name for name in (*_TEMPLATES, "format") if getattr(self, name) is not None]
        if given:
            raise ValueError(f"{', '.join(given)}: trajectories have prompts and answers of their own")
        return self

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        shares = [s for s in (self.train_size, self.test_size, self.validation_size) if isinstance(s, float)]
        if sum(shares) > 1 + 1e-9:
            raise ValueError("train_size, test_size and validation_size are more than the whole together")
        if self.stratify_by and self.group_by:
            raise ValueError("stratify_by and group_by exclude each other")
        return self

    @model_serializer(mode="wrap")
    def _without_an_absent_format(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keep the digests of experiments that were run before there was one."""
        written: dict[str, Any] = write(self)
        if written.get("format", "") is None:
            del written["format"]
        return written

    @property
    def has_preferences(self) -> bool:
        """Whether rows hold two answers."""
        return self.chosen is not None or self.stream is not None or self.format is RowFormat.PREFERENCE

    @property
    def is_open(self) -> bool:
        """Whether the columns of the first row decide what the data is."""
        return self.stream is None and all(getattr(self, name) is None for name in (*_TEMPLATES, "format"))

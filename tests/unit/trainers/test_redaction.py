"""No secret gets into a log."""

from __future__ import annotations

import pytest

from tunestream.trainers.redaction import Redactor


def test_values_of_secret_variables_are_taken_out() -> None:
    redact = Redactor(
        {
            "HF_TOKEN": "my-token-1234",
            "OTHER_SECRET": "my-token-1234-longer",
            "TUNESTREAM_KAFKA_SASL_PASSWORD": "pa$$word*",
            "TLS_PRIVATE_KEY": "first line of it\nsecond line of it",
            "TOKENIZERS_PARALLELISM": "false",
            "HOME": "/home/somebody",
        }
    )
    assert redact("a my-token-1234-longer b my-token-1234") == "a [redacted] b [redacted]"
    assert redact("pa$$word* second line of it") == "[redacted] [redacted]"
    assert redact("false /home/somebody") == "false /home/somebody"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("token hf_abcdefghijklmnopqrstuv.", "token [redacted]."),
        ("Authorization: Bearer abc.def-123456", "Authorization: Bearer [redacted]"),
        ("s3://user:pass@host/path", "s3://[redacted]@host/path"),
        ("sk-proj-abcdefghij0123456789", "[redacted]"),
        ("AKIAABCDEFGHIJKLMNOP", "[redacted]"),
        ("step 3 of 16, loss 0.52", "step 3 of 16, loss 0.52"),
        ("http://host:8080/path", "http://host:8080/path"),
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str, clean: str) -> None:
    assert Redactor({})(text) == clean

"""Training uses bf16 by default only where the device has instructions for it: emulated, it takes many times longer."""

import pytest

from bench.engine import devices
from bench.training import zoo


@pytest.mark.parametrize(
    ("flags", "options", "wanted"),
    [
        ("fma avx2", (), False),
        ("avx2 avx512f avx512_bf16", (), True),
        ("avx2 amx_bf16", (), True),
        ("", (), False),  # a system that does not tell
        ("fma avx2", ("--bf16",), True),
        ("avx512_bf16", ("--no-bf16",), False),
    ],
)
def test_training_uses_bf16_where_the_device_has_it(cli, monkeypatch, tmp_path, flags, options, wanted):
    jobs = []
    monkeypatch.setattr(devices, "_processor_line", lambda name: flags)
    monkeypatch.setattr(zoo, "train", lambda job, *_: jobs.append(job))
    result = cli("train", "--stages", "edm", "--out", tmp_path, *options)
    assert result.exit_code == 0, result.output
    assert [job.autocast for job in jobs] == [wanted]

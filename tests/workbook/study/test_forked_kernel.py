"""The kernel that waits in a fork of its run's process."""

import asyncio
import multiprocessing
import sys

import pytest
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from hdarts.workbook.study.forked_kernel import ForkedKernel, ForkProvisioner


def test_another_kernel_is_started_if_the_one_that_waits_was_killed(monkeypatch, capsys: pytest.CaptureFixture):
    kernel = ForkedKernel.__new__(ForkedKernel)
    receiver, kernel.sender = multiprocessing.Pipe(duplex=False)
    kernel.launched, kernel.pid = False, 0
    receiver.close()  # so does the end of its process

    async def usual(self: LocalProvisioner, cmd: list[str], **kwargs: object) -> list[str]:
        return cmd

    monkeypatch.setattr(LocalProvisioner, "launch_kernel", usual)
    monkeypatch.setattr(ForkProvisioner, "waiting", kernel)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "kernel.json"]
    assert asyncio.run(ForkProvisioner().launch_kernel(command, env={}, cwd="/")) == command
    assert "the waiting kernel was killed; another one is started" in capsys.readouterr().err

"""A kernel that is a fork of its run's process, so that it need not import anything again.

It is forked before the run's process starts threads, waits for its connection file, and then is an ordinary kernel.
"""

import multiprocessing
import os
import signal
import sys
from importlib.metadata import EntryPoint
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner


class ForkedKernel:
    """A forked kernel, with the part of subprocess.Popen that jupyter_client uses."""

    stdin = stdout = stderr = None

    def __init__(self) -> None:
        fork = multiprocessing.get_context("fork")
        receiver, self.sender = fork.Pipe(duplex=False)
        self.launched, self.process = False, fork.Process(target=_kernel, args=(receiver, self.sender))
        self.process.start()
        receiver.close()
        self.pid = self.process.pid

    def launch(self, arguments: list[str], environment: dict[str, str], cwd: str) -> None:
        """Let the process become the kernel of these command-line arguments."""
        self.launched = True
        self.sender.send((arguments, environment, cwd))

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int | None:
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        if self.pid and self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _kernel(receiver: Connection, sender: Connection) -> None:
    sender.close()
    try:
        arguments, environment, cwd = receiver.recv()
    except EOFError:  # the run's process has ended
        return
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    parent = f"--IPKernelApp.parent_handle={environment['JPY_PARENT_PID']}"  # its default was read at the import
    sys.argv[:] = ["ipykernel_launcher", *arguments, parent]
    from ipykernel import kernelapp

    kernelapp.launch_new_instance()


class ForkProvisioner(LocalProvisioner):
    """Launches the waiting kernel if the kernel is ipykernel in this interpreter, else a process as usual."""

    waiting: ForkedKernel | None = None

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        kernel, module = self.waiting, "ipykernel_launcher"
        if kernel is None or kernel.launched or cmd[0] != sys.executable or module not in cmd:
            return await super().launch_kernel(cmd, **kwargs)
        environment = {**kwargs["env"], "JPY_PARENT_PID": str(os.getpid())}
        cwd = str(kwargs.get("cwd") or Path.cwd())  # papermill has changed it
        try:
            kernel.launch(cmd[cmd.index(module) + 1 :], environment, cwd)
        except BrokenPipeError:
            print("notice: the waiting kernel was killed; another one is started", file=sys.stderr, flush=True)
            return await super().launch_kernel(cmd, **kwargs)
        self.process, self.pid, self.pgid, self.cwd = kernel, kernel.pid, kernel.pid, cwd
        return self.connection_info


def launch_forked(kernel: ForkedKernel) -> None:
    """Make jupyter_client launch this kernel, in this process, where a notebook is executed next."""
    ForkProvisioner.waiting = kernel
    factory = KernelProvisionerFactory.instance()
    name, where = "hdarts-fork", f"{__name__}:{ForkProvisioner.__name__}"
    factory.provisioners[name] = EntryPoint(name, where, KernelProvisionerFactory.GROUP_NAME)
    factory.default_provisioner_name = name

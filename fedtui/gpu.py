"""Memory of the GPUs, by NVML. Without its Python package (`nvidia-ml-py`), its driver, or a GPU there is nothing to tell."""
from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

MB = 1 << 20


@dataclass(frozen=True)
class Gpu:
    """One GPU; sizes in MB (2**20 bytes).

    Attributes
    ----------
    processes : memory in use by process id, as far as the driver tells.
    busy_percent : share of the time in which it computed; None when the driver does not tell.
    """

    name: str
    used_mb: float
    total_mb: float
    busy_percent: int | None = None
    processes: dict[int, float] = field(default_factory=dict)


class Gpus:
    """All GPUs of this machine; `read` is called in a thread: the driver may take a second the first time."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._absent = False

    def read(self) -> list[Gpu]:
        """Their memory now; empty when there are none. Nothing raises."""
        if self._absent:
            return []
        try:
            if self._nvml is None:
                self._nvml = importlib.import_module("pynvml")
                self._nvml.nvmlInit()
            return [self._gpu(number) for number in range(self._nvml.nvmlDeviceGetCount())]
        except ImportError:
            self._absent = True
        except Exception as error:  # NVMLError exists only when the package does
            if self._nvml is None or not isinstance(error, self._nvml.NVMLError):
                raise
            self._absent = True
        return []

    def _gpu(self, number: int) -> Gpu:
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByIndex(number)
        memory, name = nvml.nvmlDeviceGetMemoryInfo(handle), nvml.nvmlDeviceGetName(handle)
        busy = self._may_lack(lambda: int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu))
        running = self._may_lack(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle)) or []
        return Gpu(
            name.decode() if isinstance(name, bytes) else str(name), memory.used / MB, memory.total / MB, busy,
            {process.pid: (process.usedGpuMemory or 0) / MB for process in running},
        )

    def _may_lack(self, ask: Any) -> Any:
        """What some GPUs do not tell (MIG, vGPU) is None."""
        try:
            return ask()
        except self._nvml.NVMLError:
            return None

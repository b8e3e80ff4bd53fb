"""What XLA is told when it compiles, which depends on the platform."""

# XLA:CPU stops at 256-bit vectors unless told otherwise.
_CPU: dict[str, bool | int | str] = {"xla_cpu_prefer_vector_width": 512}
# XLA's own list of what is launched together, and convolutions (openxla/xla issue 34572).
_COMMANDS = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONVOLUTION"


def compiler_options(platform: str, *, devices: int = 1, deterministic: bool = False) -> dict[str, bool | int | str]:
    """What XLA is told when it compiles a step for ``devices`` devices of a platform: cpu, gpu or tpu.

    With ``deterministic`` a GPU uses no operation whose result varies from run to run, and tries none out for speed:
    the fastest may be another one the next time.
    """
    if platform == "cpu":
        return _CPU
    if platform != "gpu":
        return {}
    options: dict[str, bool | int | str] = {} if devices > 1 else {"xla_gpu_enable_command_buffer": _COMMANDS}
    if deterministic:
        options |= {"xla_gpu_exclude_nondeterministic_ops": True, "xla_gpu_autotune_level": 0}
    return options

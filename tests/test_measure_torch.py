"""The real bench, on a stand-in for PyTorch that counts: what is captured, flushed, divided and refused."""

import contextlib
import sys
from types import ModuleType, SimpleNamespace

import pytest

from hwprofiles.datasheet import ProfileError
from hwprofiles.measure import allreduce
from hwprofiles.measure.kernels import Decodes, Gemm, Heads, Prompts
from hwprofiles.measure.torch_bench import CALLS, CALLS_SHARE, WARM_UPS, TorchBench

GIB = 1 << 30
CALL_MS = 0.25
HEADS = Heads(query=8, kv=2, size=128)


class Tensor:
    def __init__(self, shape, dtype="bf16"):
        self.shape, self.dtype = tuple(shape), dtype

    def to(self, dtype):
        return Tensor(self.shape, dtype)

    def t(self):
        return Tensor(self.shape[::-1], self.dtype)

    def transpose(self, one, other):
        shape = list(self.shape)
        shape[one], shape[other] = shape[other], shape[one]
        return Tensor(shape, self.dtype)


class Torch(ModuleType):
    """A GPU whose calls take CALL_MS each when a graph is replayed, and whose clock is the sum of them."""

    def __init__(self, version="2.11.0+cu130", is_available=True, memory_bytes=80 * GIB):
        super().__init__("torch")
        self.__version__, self.version = version, SimpleNamespace(cuda="13.0")
        self.bfloat16, self.float8_e4m3fn, self.uint8, self.float32 = "bf16", "fp8", "u8", "f32"
        self.clock_ms, self.log, self.captured, self.is_capturing = 0.0, [], [], False
        self.made, self.error, self.backends = [], None, None
        self.nn = SimpleNamespace(
            functional=SimpleNamespace(linear=self.kernel("linear"), scaled_dot_product_attention=self.kernel("attention"))
        )
        self._scaled_mm = self.kernel("scaled_mm")
        self.cuda = SimpleNamespace(
            is_available=lambda: is_available,
            device_count=lambda: 2,
            mem_get_info=lambda _: (memory_bytes, memory_bytes),
            get_device_properties=lambda _: SimpleNamespace(
                name="Fake", total_memory=memory_bytes, major=9, minor=0, L2_cache_size=50 << 20
            ),
            empty_cache=lambda: None,
            synchronize=lambda: None,
            current_stream=self.stream,
            Stream=self.stream,
            stream=lambda _: contextlib.nullcontext(),
            Event=lambda enable_timing: Event(self),
            CUDAGraph=lambda: SimpleNamespace(replay=self.replay),
            graph=self.capture,
        )

    def stream(self):
        return SimpleNamespace(wait_stream=lambda _: None)

    def kernel(self, name):
        def call(*operands, **more):
            if self.error:
                raise self.error
            (self.captured if self.is_capturing else self.log).append((name, operands, more))
            return Tensor(())

        return call

    @contextlib.contextmanager
    def capture(self, _, capture_error_mode):
        self.captured.clear()
        self.is_capturing = True
        yield
        self.is_capturing = False

    def replay(self):
        self.log.append("replay")
        self.clock_ms += CALL_MS * len(self.captured)

    def randn(self, *shape, dtype, device):
        self.made.append(shape)
        return Tensor(shape, dtype)

    def ones(self, shape, device):
        return Tensor(shape, "f32")

    def empty(self, size, dtype, device):
        return SimpleNamespace(zero_=lambda: self.log.append(("flush", size)))

    def inference_mode(self):
        return contextlib.nullcontext()


class Event:
    def __init__(self, torch):
        self.torch, self.at_ms = torch, None

    def record(self):
        self.at_ms = self.torch.clock_ms

    def elapsed_time(self, end):
        return end.at_ms - self.at_ms


@pytest.fixture
def torch(monkeypatch):
    return installed(monkeypatch, Torch())


def installed(monkeypatch, torch):
    attention, bias = ModuleType("torch.nn.attention"), ModuleType("torch.nn.attention.bias")
    attention.SDPBackend = SimpleNamespace(FLASH_ATTENTION="flash")
    attention.sdpa_kernel = lambda backend: contextlib.nullcontext(setattr(torch, "backends", backend))
    bias.causal_lower_right = lambda length, seen: ("lower right", length, seen)
    for name, module in (("torch", torch), ("torch.nn.attention", attention), ("torch.nn.attention.bias", bias)):
        monkeypatch.setitem(sys.modules, name, module)
    return torch


KERNELS = [
    Gemm("bf16", 64, 32, 8),
    Gemm("fp8", 64, 32, 8),
    Prompts(HEADS, 2, 16),
    Prompts(HEADS, 1, 16, past=48),
    Decodes(HEADS, 4, 100),
]


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_the_latency_is_that_of_one_call_of_a_graph_of_many(torch, kernel):
    assert TorchBench(repeats=5).ms(kernel) == CALL_MS
    assert len(torch.captured) == CALLS
    operands = [id(one) for _, given, _ in torch.captured for one in given[:1]]
    assert len(set(operands)) == CALLS  # none is still cached from the call before


def test_every_timed_replay_comes_after_a_flush_of_more_than_the_cache(torch):
    TorchBench(repeats=5).ms(KERNELS[0])
    after_capture = torch.log[WARM_UPS * CALLS :]
    assert after_capture == ["replay"] + [("flush", 100 << 20), "replay"] * 5


@pytest.mark.parametrize("memory_gib", [1, 8, 80])
def test_the_operands_of_a_graph_stay_within_their_share_of_the_memory(monkeypatch, memory_gib):
    torch = installed(monkeypatch, Torch(memory_bytes=memory_gib * GIB))
    kernel = Gemm("bf16", 8192, 8192, 8192)
    TorchBench(repeats=1).ms(kernel)
    assert 1 <= len(torch.captured) <= CALLS
    assert len(torch.captured) == 1 or len(torch.captured) * kernel.held_bytes <= CALLS_SHARE * memory_gib * GIB


def test_operands_have_the_shapes_of_the_kernel(torch):
    bench = TorchBench(repeats=1)
    bench.ms(KERNELS[0])
    name, (rows, weights), _ = torch.captured[0]
    assert (name, rows.shape, weights.shape) == ("linear", (8, 32), (64, 32))
    bench.ms(KERNELS[1])
    name, (rows, weights), more = torch.captured[0]
    assert (name, rows.shape, weights.shape) == ("scaled_mm", (8, 32), (32, 64))
    assert {rows.dtype, weights.dtype} == {"fp8"} and more["out_dtype"] == "bf16"


def test_attention_is_flash_attention_that_sees_what_it_should(torch):
    bench = TorchBench(repeats=1)
    seen = []
    for kernel in KERNELS[2:]:
        bench.ms(kernel)
        _, (query, keys, values), more = torch.captured[0]
        assert torch.backends == "flash" and more.pop("enable_gqa") is True and keys.shape == values.shape
        seen.append((query.shape, keys.shape, more))
    assert seen == [
        ((2, 8, 16, 128), (2, 2, 16, 128), {"is_causal": True}),
        ((1, 8, 16, 128), (1, 2, 64, 128), {"attn_mask": ("lower right", 16, 64)}),
        ((4, 8, 1, 128), (4, 2, 100, 128), {}),
    ]
    bench.ms(Decodes(Heads(query=8, kv=8, size=128), 1, 16))
    assert torch.captured[0][2] == {"enable_gqa": False}


def test_what_a_library_cannot_run_is_named_with_its_words(torch):
    bench = TorchBench(repeats=1)
    torch.error = RuntimeError("No available kernel. Aborting execution.\nmore lines")
    with pytest.raises(ProfileError, match=r"^attention of 4 decodes of 100 tokens, 8/2 heads of 128: cannot be run here: No"):
        bench.ms(KERNELS[4])


@pytest.mark.parametrize(
    ("torch", "gpus", "expected"),
    [
        (Torch(is_available=False), 1, "sees no CUDA device; expected an NVIDIA GPU and its driver"),
        (Torch(version="2.4.1"), 1, "is too old; expected 2.5 or newer"),
        (Torch(), 4, "--tp 4 takes 4 GPUs; visible here: 2"),
    ],
)
def test_a_machine_that_will_not_do_is_refused_at_once(monkeypatch, torch, gpus, expected):
    installed(monkeypatch, torch)
    with pytest.raises(ProfileError, match=expected):
        TorchBench(1, gpus)


@pytest.mark.parametrize(("version", "folder"), [("2.11.0+cu130", "2.11.0"), ("2.12.0a0+git1", "2.12.0"), ("2.9", "2.9")])
def test_the_version_orders_and_is_safe_as_a_folder(monkeypatch, version, folder):
    installed(monkeypatch, Torch(version=version))
    assert TorchBench(1).device.version == folder


def test_clocks_are_what_nvidia_smi_says_and_nothing_without_it(torch, monkeypatch, tmp_path):
    bench = TorchBench(1)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bench.clocks() == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'Fake, 580.1, 1980, 3201, 1980, 3201, 700.00'\n")
    program.chmod(0o755)
    assert bench.clocks()[0]["clocks.sm"] == "1980"
    program.write_text("#!/bin/sh\nexit 9\n")
    assert bench.clocks() == []


def test_all_reduces_come_from_processes_of_torchrun(torch, monkeypatch):
    bench = TorchBench(repeats=7)

    def run(words, **_):
        at = words.index("hwprofiles.measure.allreduce")
        assert words[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        answer, repeats, *elements = words[at + 1 :]
        assert (repeats, elements) == ("7", ["1024", "2048"])
        with open(answer, "w") as file:
            file.write("[0.5, 0.75]")
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr("subprocess.run", run)
    assert bench.allreduce_ms(2, [1024, 2048]) == [0.5, 0.75]
    failed = SimpleNamespace(returncode=1, stderr="W: noise\nRuntimeError: NCCL cannot\n")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: failed)
    with pytest.raises(ProfileError, match="all-reduce over 2 GPUs: cannot be run here: RuntimeError: NCCL cannot"):
        bench.allreduce_ms(2, [1024])


def test_a_process_times_its_messages_and_the_first_writes_the_slowest(torch, monkeypatch, tmp_path):
    ended, sizes = [], []
    distributed = ModuleType("torch.distributed")
    distributed.init_process_group = lambda backend: ended.append(backend)
    distributed.destroy_process_group = lambda: ended.append("destroyed")
    distributed.get_rank = lambda: 0
    distributed.barrier = lambda: None
    distributed.ReduceOp = SimpleNamespace(MAX="max")
    count = torch.kernel("all_reduce")
    distributed.all_reduce = lambda tensor, op=None: setattr(tensor, "ms", 2 * tensor.ms) if op else count(tensor)
    monkeypatch.setitem(sys.modules, "torch.distributed", distributed)
    monkeypatch.setenv("LOCAL_RANK", "1")
    torch.cuda.set_device = sizes.append
    torch.float64 = "f64"
    torch.zeros = lambda size, dtype, device: sizes.append(size) or Tensor((size,), dtype)
    torch.tensor = lambda values, dtype, device: Worst(values[0])
    allreduce.main([str(tmp_path / "answer.json"), "3", "1024", "4096"])
    assert sizes == [1, 1024, 4096] and ended == ["nccl", "destroyed"]
    assert (tmp_path / "answer.json").read_text() == "[0.5, 0.5]"  # the slowest takes twice as long as this one


class Worst:
    def __init__(self, ms):
        self.ms = ms

    def item(self):
        return self.ms

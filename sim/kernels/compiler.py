"""The marks of these kernels; `workloads.jit` says what they do."""

from workloads.jit import compiler

entry, kernel, routine = compiler(__name__)

"""Measure: kernel tables of the GPU at hand, timed with PyTorch, for the fit: `python -m hwprofiles.measure`.

Reading order: `kernels` (what is timed), `plan` (which of them the models need), `bench` (who times them: an interface),
`torch_bench` and `allreduce` (the real one), `sanity` (times that no GPU can have), `tables` (times to files),
`describe` (a draft of the GPU's data sheet), `__main__` (the command line). PyTorch is loaded by `torch_bench` alone,
when a GPU is wanted.
"""

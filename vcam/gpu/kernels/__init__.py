"""The pixel kernels of a frame in Triton: everything but the network, in some twenty launches.

They compute what `vcam.gpu.torch_matte` and `vcam.gpu.torch_draw` do in torch's own kernels, which
are hundreds. Those stay the reference: see `Plan.try_triton`. A kernel never reads what others of
its launch write, but for the trees of `pieces`.
"""

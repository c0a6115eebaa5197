"""maskmm for PyTorch: products that autograd, torch.func, torch.compile and torch.export know, a linear layer whose
weight has blocks left out, and masks as tensors. ``maskmm.block_masked_mm`` comes here by itself for torch tensors.
"""

from maskmm.torch import patterns
from maskmm.torch._front import block_masked_dot, block_masked_mm
from maskmm.torch._linear import BlockMaskedLinear

__all__ = ["BlockMaskedLinear", "block_masked_dot", "block_masked_mm", "patterns"]

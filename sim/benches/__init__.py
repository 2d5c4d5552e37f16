"""cocotb benches, imported inside the simulator; they never import torch."""

"""How a block is computed: as autograd functions, on a CPU, and by kernels on a GPU."""

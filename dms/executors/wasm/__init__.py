"""The WebAssembly executor and its worker process."""

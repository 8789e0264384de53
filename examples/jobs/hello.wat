;; hello.wasm as text. A module says what it wants of its host by name (WASI preview 1), and runs on any architecture.
;; To build one of your own, use a toolchain with that target: `cargo build --target wasm32-wasip1`, `clang --target=wasm32-wasi`.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "hello from a module\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 16)) ;; where the text begins
    (i32.store (i32.const 4) (i32.const 20)) ;; its length
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))

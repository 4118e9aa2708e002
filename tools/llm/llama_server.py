"""Runs llama.cpp's own HTTP server on a model file, until it is stopped.

    python tools/llm/llama_server.py FILE.gguf PORT

Needs the package xllamacpp, which is llama.cpp with bindings.
"""

import sys
import threading

import xllamacpp


def main(model, port):
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = int(port)
    parameters.n_ctx = 4096
    parameters.n_parallel = 2
    parameters.use_jinja = True
    parameters.cpuparams.n_threads = 1
    parameters.warmup = False
    server = xllamacpp.Server(parameters)
    print("listening at", server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])

/* Errors are values. A function that can fail returns a `status` (0 is success) and fills the `err` it was given with a
 * sentence a user can act on. The status decides what callers do, the text explains; both travel together to main().
 * Every status has a stable reason code, a category and an HTTP status in one table, ERR_TABLE; docs/errors.md is printed
 * from it. Nothing below main() prints. An `err` belongs to its caller; no allocation, any thread. */
#ifndef ROCMFORGE_BASE_ERR_H
#define ROCMFORGE_BASE_ERR_H

#include <stdarg.h>
#include <stdbool.h>

/* X(enumerator, reason code, category, HTTP status, a retry may help, what it means) */
#define ERR_TABLE(X) \
    X(ERR_NOMEM, "memory.exhausted", "Backend", 503, true, "an allocation failed; nothing was kept") \
    X(ERR_IO, "io.failed", "Model", 400, false, "a file could not be opened, read or written") \
    X(ERR_FILE_CHANGED, "io.file_changed", "Model", 503, false, "a model file shrank, changed or failed while in use") \
    X(ERR_GGUF_MAGIC, "gguf.magic", "Model", 400, false, "not a GGUF file, or one of the other byte order") \
    X(ERR_GGUF_VERSION, "gguf.version", "Model", 400, false, "a GGUF version this program does not read") \
    X(ERR_GGUF_TRUNCATED, "gguf.truncated", "Model", 400, false, "the file ends before what its header declares") \
    X(ERR_GGUF_LIMIT, "gguf.limit", "Model", 400, false, \
      "a count or length beyond what the file can hold or we accept") \
    X(ERR_GGUF_KEY, "gguf.key", "Model", 400, false, "a metadata key is malformed, duplicated or of the wrong type") \
    X(ERR_GGUF_TENSOR, "gguf.tensor", "Model", 400, false, \
      "a tensor's name, shape, type or place in the file is wrong") \
    X(ERR_GGUF_SPLIT, "gguf.split", "Model", 400, false, "the shards of a split file are missing or disagree") \
    X(ERR_TYPE, "model.type", "Model", 400, false, "a tensor type that is not built in") \
    X(ERR_ARCH, "model.architecture", "Model", 400, false, "an architecture that is not built in") \
    X(ERR_MODEL_KEY, "model.key", "Model", 400, false, \
      "a hyperparameter is missing, or contradicts another or a tensor") \
    X(ERR_MODEL_TENSOR, "model.tensor", "Model", 400, false, \
      "a weight is missing or its shape does not fit the hyperparameters") \
    X(ERR_TOKENIZER, "model.tokenizer", "Model", 400, false, \
      "the vocabulary is missing, inconsistent or of an unknown kind") \
    X(ERR_PRETOKENIZER, "model.pre_tokenizer", "Model", 400, false, "a pre-tokenizer name that is not built in") \
    X(ERR_CONVERT_WEIGHTS, "convert.safetensors", "Model", 400, false, \
      "a safetensors file, or the index over several, is malformed, incomplete or contradicts itself") \
    X(ERR_CONVERT_CONFIG, "convert.config", "Model", 400, false, \
      "a JSON file of a Hugging Face folder is missing, malformed, or asks for what is not built in") \
    X(ERR_CONVERT_TOKENIZER, "convert.tokenizer", "Model", 400, false, \
      "a folder's tokenizer is missing, malformed or of a kind that is not built in") \
    X(ERR_CONVERT_TENSOR, "convert.tensor", "Model", 400, false, \
      "a folder's weight has no place in its architecture, or cannot be written as asked") \
    X(ERR_NUMBERS, "model.not_finite", "Model", 500, false, \
      "the model's numbers are not finite (NaN or infinity): refused, not sampled") \
    X(ERR_EMBEDS_ONLY, "model.embeds_only", "User", 400, false, \
      "the model is an encoder: it gives embeddings, it generates no text") \
    X(ERR_GRAPH, "internal.graph", "Internal", 500, false, "a computation graph failed its own checks") \
    X(ERR_INTERNAL, "internal.bug", "Internal", 500, false, "a state the program should never reach") \
    X(ERR_UNSUPPORTED, "backend.unsupported", "Backend", 400, false, "this device or build cannot do what was asked") \
    X(ERR_DEVICE, "backend.device", "Backend", 503, true, "a device failed or is not there") \
    X(ERR_GPU_NO_DRIVER, "gpu.no_driver", "Backend", 503, false, "no GPU runtime library on this system") \
    X(ERR_GPU_DRIVER, "gpu.driver", "Backend", 503, false, "a GPU runtime that is broken or too old") \
    X(ERR_GPU_PERMISSION, "gpu.permission", "Backend", 503, false, "the GPU's device node may not be opened") \
    X(ERR_GPU_NONE, "gpu.none", "Backend", 503, false, "no GPU that could be used") \
    X(ERR_GPU_ARCH, "gpu.arch", "Backend", 400, false, "a GPU that this build has no code for") \
    X(ERR_GPU_MEMORY, "gpu.memory", "Backend", 400, false, "the model does not fit into the GPU's memory") \
    X(ERR_GPU_CALL, "gpu.call", "Backend", 503, true, "a call of the GPU's runtime failed") \
    X(ERR_GPU_PEER, "gpu.peer", "Backend", 503, false, "two GPUs that cannot reach each other's memory") \
    X(ERR_GPU_WRONG, "gpu.wrong_numbers", "Backend", 503, false, "a GPU that computes wrong numbers; it is refused") \
    X(ERR_CPU_TIER, "backend.cpu_tier", "User", 400, false, \
      "ROCMFORGE_CPU names a tier this CPU lacks or an unknown one") \
    X(ERR_MEMORY_PLAN, "memory.plan", "Backend", 400, false, "the planned memory does not fit") \
    X(ERR_USAGE, "usage.argument", "User", 400, false, "an unknown, missing or misplaced argument") \
    X(ERR_RANGE, "usage.range", "User", 400, false, "a value out of range or of the wrong form") \
    X(ERR_JSON, "request.json", "User", 400, false, "a body that is not one JSON object within the limits") \
    X(ERR_FIELD, "request.field", "User", 400, false, \
      "a field that is missing, unknown, of the wrong type or out of range") \
    X(ERR_FIELD_UNBUILT, "request.unsupported", "User", 400, false, "a field that is known but not built in") \
    X(ERR_TOKEN, "request.token", "User", 400, false, "a token id outside the vocabulary") \
    X(ERR_CONTEXT_LENGTH, "request.context_length", "User", 400, false, "the prompt is longer than the context") \
    X(ERR_EMPTY, "request.empty", "User", 400, false, "a prompt that holds no token") \
    X(ERR_QUEUE_FULL, "request.queue_full", "Recoverable", 429, true, "the queue is full") \
    X(ERR_NO_SLOT, "request.no_slot", "Recoverable", 503, true, "every place in the batch is taken") \
    X(ERR_NO_PAGES, "request.kv_full", "Recoverable", 503, true, "no KV page is free") \
    X(ERR_TIMEOUT, "request.timeout", "Recoverable", 503, true, "the request took longer than it was given") \
    X(ERR_NOT_FOUND, "request.not_found", "User", 404, false, "no request, model or route of this name") \
    X(ERR_TEMPLATE, "template.failed", "Model", 400, false, \
      "a chat template could not be read or rendered; line and message are given") \
    X(ERR_NO_TEMPLATE, "template.missing", "Model", 400, false, "the model's file has no chat template") \
    X(ERR_LISTEN, "server.listen", "Backend", 503, true, "the server could not listen at this address") \
    X(ERR_TLS, "server.tls", "User", 400, false, "a TLS certificate or key could not be used") \
    X(ERR_HTTP, "http.malformed", "User", 400, false, \
      "no HTTP request as RFC 9112 has it, or a head over its limits (also 414, 417, 431, 501, 505)") \
    X(ERR_HTTP_KEY, "http.key", "User", 401, false, "no API key came with the request, or a wrong one") \
    X(ERR_HTTP_HOST, "http.host", "User", 403, false, "a Host that this server does not answer to") \
    X(ERR_HTTP_METHOD, "http.method", "User", 405, false, "the route does not take this method (501: no route does)") \
    X(ERR_HTTP_SLOW, "http.too_slow", "User", 408, true, "a request that took too long to arrive") \
    X(ERR_HTTP_SIZE, "http.too_large", "User", 413, false, "a body larger than the server takes") \
    X(ERR_HTTP_TYPE, "http.media_type", "User", 415, false, "a body that is compressed, or not JSON") \
    X(ERR_DRAINING, "server.draining", "Recoverable", 503, true, "the server is shutting down") \
    X(ERR_REMOTE_CONNECT, "remote.connect", "Recoverable", 503, true, "a server could not be reached") \
    X(ERR_REMOTE_TLS, "remote.tls", "User", 400, false, \
      "a server's certificate is not trusted, or --cacert is no use") \
    X(ERR_REMOTE_AUTH, "remote.auth", "User", 401, false, "a server refused the key") \
    X(ERR_REMOTE_BUSY, "remote.busy", "Recoverable", 429, true, "a server stayed full") \
    X(ERR_REMOTE_UNAVAILABLE, "remote.unavailable", "Recoverable", 503, true, "a server is loading, draining or ill") \
    X(ERR_REMOTE_REFUSED, "remote.refused", "User", 400, false, "a server refused the request") \
    X(ERR_REMOTE_FAILED, "remote.failed", "Backend", 500, true, "a server gave up in the middle of an answer") \
    X(ERR_REMOTE_BROKEN, "remote.broken", "Recoverable", 503, true, \
      "a connection broke before the answer was whole; what came is printed") \
    X(ERR_REMOTE_REPLY, "remote.reply", "Backend", 502, false, "a server's reply is not of the form it should be") \
    X(ERR_STORE_BUSY, "context.busy", "Recoverable", 503, true, "another process held the context store for too long") \
    X(ERR_STORE_FOREIGN, "context.foreign", "User", 400, false, \
      "a file that is no context store, or that of a newer version; it is left as it is") \
    X(ERR_STORE_DAMAGED, "context.damaged", "Backend", 500, false, \
      "a part of the context store cannot be what was written; nothing of it is believed") \
    X(ERR_STORE_FULL, "context.full", "Recoverable", 503, true, \
      "no space is left for the context store; nothing was kept") \
    X(ERR_STORE_READ_ONLY, "context.read_only", "User", 400, false, "the context store may not be written") \
    X(ERR_CANCELLED, "request.cancelled", "User", 400, false, "the request was cancelled") \
    X(ERR_OUTPUT_CLOSED, "io.output_closed", "User", 400, false, "standard output was closed by its reader")

typedef enum status {
    OK = 0,
#define X(id, code, cat, http, retry, text) id,
    ERR_TABLE(X)
#undef X
        ERR_COUNT
} status;

typedef struct {
    status code;
    char text[480]; /* one line, always terminated; control bytes and broken UTF-8 from files are escaped */
} err;

typedef struct {
    const char *code;     /* "gguf.key" */
    const char *category; /* "User", "Model", "Recoverable", "Backend", "Internal" */
    int http;
    bool retry;
    const char *text;
} err_info;

#define MUST_CHECK __attribute__((warn_unused_result))

/* Fills *e (NULL is fine) and returns `code`, so that a failing line reads `return fail(e, ERR_X, "...")`. */
__attribute__((format(printf, 3, 4), cold)) status fail(err *e, status code, const char *fmt, ...);
/* Puts text before the message already in *e: fail_in(e, s, "shard 2: "). Returns s. */
__attribute__((format(printf, 3, 4), cold)) status fail_in(err *e, status s, const char *fmt, ...);
const err_info *err_lookup(status code); /* never NULL; OK and unknown codes give a row that says so */

#endif

#include "model/windows.h"

status windows_read_pattern(model_info *m, const keys *k, uint32_t pattern, bool wide_first) {
    const char *suffix = "attention.sliding_window_pattern";
    key_name name = keys_name(k, suffix);
    const gguf_kv *kv = gguf_find(k->g, name.text);
    bool flags = kv && kv->type == GGUF_ARRAY;
    status s = flags ? OK : keys_u32(k, suffix, 0, MODEL_MAX_LAYERS, &pattern);
    for (uint32_t il = 0; !s && il < m->n_layer; il++) {
        uint32_t wide = wide_first ? 0 : pattern - 1, local = pattern == 0 || il % pattern != wide;
        if (flags) s = keys_layer_u32(k, suffix, m->n_layer, il, 0, 1, &local);
        m->layer[il].local_rope = local;
    }
    return s;
}

status windows_read_around(model_info *m, const keys *k, uint32_t pattern, bool wide_first, bool needed) {
    uint32_t window = 0;
    m->rope_local = m->rope;
    m->rope_local.base = 10000.0f;
    m->rope_local.freq_scale = 1.0f;
    status s = needed ? keys_need_u32(k, "attention.sliding_window", 1, INT32_MAX, &window)
                      : keys_u32(k, "attention.sliding_window", 0, INT32_MAX, &window);
    if (!s) s = keys_f32(k, "rope.freq_base_swa", 1.0f, 1e15f, &m->rope_local.base);
    if (!s && window) s = windows_read_pattern(m, k, pattern, wide_first);
    for (uint32_t il = 0; !s && il < m->n_layer; il++) {
        if (!m->layer[il].local_rope) continue;
        m->layer[il].window = window / 2 + 1;
        m->layer[il].ahead = window / 2;
    }
    return s;
}

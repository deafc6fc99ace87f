/* Matrix times activations. Work is cut along panels (16 rows of the weight); inside a chunk, columns go in blocks that fit
 * the cache and every panel of the chunk meets a block before the next. The cut never touches a sum. */
#include "backend/cpu/cpu_state.h"

enum { MAX_COLS = 64, CHUNKS_PER_THREAD = 6, CHUNK_MIN_BYTES = 24 << 10 };

/* Enough chunks to balance, none so small that claiming it costs more than it saves. */
uint32_t cpu_matmul_chunks(const cpu_backend *c, const cpu_matmul *m) {
    if (c->n_threads == 1) return 1;
    size_t panel_cost = m->w->row_bytes * PANEL_ROWS * (m->n_col < 4 ? 1 : m->n_col / 2);
    uint32_t per_chunk = (uint32_t)(CHUNK_MIN_BYTES / (panel_cost ? panel_cost : 1)) + 1;
    uint32_t most = (m->w->n_panels + per_chunk - 1) / per_chunk;
    return max_u32(1, min_u32(most, c->n_threads * CHUNKS_PER_THREAD));
}

static float *column(const cpu_matmul *m, uint32_t col) {
    if (!m->slots) return m->y + (size_t)col * m->y_stride;
    uint32_t slot = m->slots[col];
    return m->y + slot / m->n_used * m->y_stride + (size_t)(slot % m->n_used) * m->w->n_rows;
}

static void store(const cpu_matmul *m, const float *acc, uint32_t panel, uint32_t col0, uint32_t n_col) {
    uint32_t row = panel * PANEL_ROWS, n_rows = min_u32(PANEL_ROWS, m->w->n_rows - row);
    for (uint32_t i = 0; i < n_col; i++, acc += PANEL_ROWS) {
        uint32_t col = col0 + i;
        float *y = column(m, col) + row;
        const float *res = m->residual ? m->residual + (size_t)col * m->res_stride + row : NULL;
        if (res)
            for (uint32_t r = 0; r < n_rows; r++) y[r] = acc[r] + res[r];
        else
            for (uint32_t r = 0; r < n_rows; r++) y[r] = acc[r];
    }
}

static void quantised_rows(const cpu_backend *c, const cpu_matmul *m, uint32_t panel0, uint32_t panel1) {
    const cpu_weight *w = m->w;
    linear_panel_fn kernel = w->panels ? c->ops.linear_panel[w->type] : NULL;
    uint32_t block = w->k > 4096 ? MAX_COLS / 2 : MAX_COLS;
    _Alignas(64) float acc[MAX_COLS * PANEL_ROWS];
    for (uint32_t col = 0; col < m->n_col; col += block) {
        uint32_t n = min_u32(block, m->n_col - col);
        for (uint32_t p = panel0; p < panel1; p++) {
            if (kernel) {
                kernel(acc, m->data + p * w->panel_size, w->k, &m->act, col, n);
            } else {
                uint32_t rows = min_u32(PANEL_ROWS, w->n_rows - p * PANEL_ROWS);
                linear_rows_ref(acc, m->data + (size_t)p * PANEL_ROWS * w->row_bytes, w->row_bytes, rows, w->type, w->k,
                                &m->act, col, n);
            }
            store(m, acc, p, col, n);
        }
    }
}

static void float_rows(const cpu_backend *c, const cpu_matmul *m, uint32_t panel0, uint32_t panel1) {
    const cpu_weight *w = m->w;
    uint32_t row0 = panel0 * PANEL_ROWS, n_rows = min_u32(panel1 * PANEL_ROWS, w->n_rows) - row0;
    const uint8_t *rows = m->data + (size_t)row0 * w->row_bytes;
    if (!m->slots) {
        c->ops.linear_float(m->y + row0, m->y_stride, rows, w->type, w->row_bytes, n_rows, m->x, m->x_stride, m->n_col,
                            w->k);
    } else {
        for (uint32_t i = 0; i < m->n_col; i++)
            c->ops.linear_float(column(m, i) + row0, 0, rows, w->type, w->row_bytes, n_rows,
                                m->x + (size_t)i * m->x_stride, 0, 1, w->k);
    }
    for (uint32_t i = 0; m->residual && i < m->n_col; i++) {
        float *y = m->y + (size_t)i * m->y_stride + row0;
        c->ops.add(y, y, m->residual + (size_t)i * m->res_stride + row0, n_rows);
    }
}

void cpu_matmul_rows(const cpu_backend *c, const cpu_matmul *m, uint32_t panel0, uint32_t panel1) {
    if (m->x)
        float_rows(c, m, panel0, panel1);
    else
        quantised_rows(c, m, panel0, panel1);
}

/* A linear node may stack several weights over one input: their chunks form one job. */
typedef struct {
    const cpu_backend *c;
    uint32_t n_parts;
    cpu_matmul part[GRAPH_MAX_IN];
    uint32_t n_chunks[GRAPH_MAX_IN];
} linear_job;

static void linear_chunk(void *ctx, uint32_t chunk, uint32_t worker) {
    (void)worker;
    linear_job *j = ctx;
    uint32_t i = 0;
    while (chunk >= j->n_chunks[i]) chunk -= j->n_chunks[i++];
    uint64_t n = j->part[i].w->n_panels, parts = j->n_chunks[i];
    cpu_matmul_rows(j->c, &j->part[i], (uint32_t)(n * chunk / parts), (uint32_t)(n * (chunk + 1) / parts));
}

void cpu_run_linear(cpu_backend *c, const node *n) {
    const node *x = n->in[0], *res = n->p.linear.residual ? n->in[n->n_in - 1] : NULL;
    cpu_value y = cpu_value_of(c, n), xv = cpu_value_of(c, x);
    linear_job j = {.c = c, .n_parts = n->n_in - 1 - (res ? 1 : 0)};
    uint32_t row = 0, total = 0;
    for (uint32_t i = 0; i < j.n_parts; i++) {
        const cpu_weight *w = &c->weight[n->in[1 + i]->id];
        cpu_matmul *m = &j.part[i];
        *m = (cpu_matmul){.w = w, .data = w->data, .n_col = cpu_rows(c, n)};
        if (x->dtype == DTYPE_F32)
            m->x = (const float *)(void *)xv.data, m->x_stride = xv.stride / sizeof(float);
        else
            m->act = cpu_act_of(c, x);
        m->y = (float *)(void *)y.data + row;
        m->y_stride = y.stride / sizeof(float);
        if (res) {
            cpu_value r = cpu_value_of(c, res);
            m->residual = (const float *)(void *)r.data + row;
            m->res_stride = r.stride / sizeof(float);
        }
        total += j.n_chunks[i] = cpu_matmul_chunks(c, m);
        row += w->n_rows;
    }
    pool_run(c->pool, linear_chunk, &j, total);
}

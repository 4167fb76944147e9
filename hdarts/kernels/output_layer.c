/* A linear layer w = W z + b whose rows come in segments with an input vector each, and the SGD step on it; called by
   output_layer.py.

   Each function reads the matrix once, row by row in vectors; where the width of a row is no multiple of V, its last
   vector overlaps the one before. The same number of threads gives the same bits. */

#include "lanes.h"

typedef struct { int64_t rows, width, segments, threads; } Layer; /* V <= width */

#define LOAD(p) (*(const vec *)(p))
#define PARALLEL _Pragma("omp parallel for schedule(static, 1) num_threads(l->threads)")

static inline int64_t first_of(const Layer *l, int64_t thread) { return l->rows * thread / l->threads; }
static inline int64_t vectors_of(const Layer *l) { return (l->width + V - 1) / V; }
static inline int64_t column(const Layer *l, int64_t c) { return (c + 1) * V <= l->width ? c * V : l->width - V; }

/* Segment of a row, searched from `from` on; ends: one past the last row of each segment. */
static inline int64_t segment(const int64_t *ends, int64_t from, int64_t row) {
    while (ends[from] <= row) from++;
    return from;
}

/* out = W z + b; b may be NULL. */
int outputs(const Layer *l, const int64_t *ends, const REAL *w, const REAL *b, const REAL *z, REAL *out) {
    int64_t full = l->width / V, left = l->width % V;
    mask fresh; /* lanes of the last vector that do not overlap the one before */
    for (int i = 0; i < V; i++) fresh[i] = i < V - left ? 0 : -1;
    PARALLEL for (int64_t t = 0; t < l->threads; t++)
        for (int64_t r = first_of(l, t), of = 0; r < first_of(l, t + 1); r++) {
            of = segment(ends, of, r);
            const REAL *row = w + r * l->width, *in = z + of * l->width;
            vec sum = {0};
            for (int64_t c = 0; c < full; c++) sum += LOAD(row + c * V) * LOAD(in + c * V);
            if (left) sum += (vec)((mask)(LOAD(row + l->width - V) * LOAD(in + l->width - V)) & fresh);
            out[r] = sum_of(sum) + (b ? b[r] : 0);
        }
    return 0;
}

/* sums (thread, segment, width), zero on entry: the part of W^T g from the rows of each thread. */
int vjp(const Layer *l, const int64_t *ends, const REAL *w, const REAL *g, REAL *sums) {
    int64_t vectors = vectors_of(l);
    PARALLEL for (int64_t t = 0; t < l->threads; t++) {
        int64_t end = first_of(l, t + 1);
        for (int64_t r = first_of(l, t), of = 0; r < end;) {
            of = segment(ends, of, r);
            int64_t until = ends[of] < end ? ends[of] : end;
            REAL *to = sums + (t * l->segments + of) * l->width;
            vec sum[vectors];
            memset(sum, 0, sizeof sum);
            for (; r < until; r++)
                for (int64_t c = 0; c < vectors; c++) sum[c] += g[r] * LOAD(w + r * l->width + column(l, c));
            for (int64_t c = 0; c < vectors; c++) *(vec *)(to + column(l, c)) = sum[c];
        }
    }
    return 0;
}

/* v <- m v + (s sum_k g_k z_k + d w), w <- w - rate v, for W with z (k, segment, width) and g (k, row), and for b with
   z = 1; settings: s, m, d, rate, and 1 for Nesterov's w <- w - rate (slope + m v) with the new v. */
int step(const Layer *l, const int64_t *ends, REAL *w, REAL *v, REAL *b, REAL *speed, int64_t factors, const REAL *g,
         const REAL *z, const REAL *settings) {
    REAL scale = settings[0], m = settings[1], d = settings[2], rate = settings[3];
    int nesterov = settings[4] != 0;
    int64_t vectors = vectors_of(l), last = l->width - V;
    PARALLEL for (int64_t t = 0; t < l->threads; t++)
        for (int64_t r = first_of(l, t), of = 0; r < first_of(l, t + 1); r++) {
            of = segment(ends, of, r);
            REAL *row = w + r * l->width, *speeds = v + r * l->width;
            vec old_w = LOAD(row + last), old_v = LOAD(speeds + last); /* before the overlap is written */
            for (int64_t c = 0; c < vectors; c++) {
                int64_t at = column(l, c);
                vec here = c + 1 < vectors ? LOAD(row + at) : old_w, slope = d * here;
                for (int64_t k = 0; k < factors; k++)
                    slope += scale * g[k * l->rows + r] * LOAD(z + (k * l->segments + of) * l->width + at);
                vec faster = m * (c + 1 < vectors ? LOAD(speeds + at) : old_v) + slope;
                *(vec *)(speeds + at) = faster;
                if (nesterov) *(vec *)(row + at) = here - rate * (slope + m * faster);
                else *(vec *)(row + at) = here - rate * faster;
            }
            if (!b) continue;
            REAL slope = d * b[r];
            for (int64_t k = 0; k < factors; k++) slope += scale * g[k * l->rows + r];
            speed[r] = m * speed[r] + slope;
            b[r] -= rate * (nesterov ? slope + m * speed[r] : speed[r]);
        }
    return 0;
}

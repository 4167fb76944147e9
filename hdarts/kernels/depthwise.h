/* Depthwise convolution of one chunk of a tile, also used for the gradient in the input, and that in the weights. */

#pragma once

#include "lanes.h"

enum { WIDE = V * sizeof(REAL) == 64 }; /* registers: 32 with 512 bits, else 16 */

/* A zero-padded image or gradient, or a part of one: pixels are `unit` vectors apart. */
typedef struct { int64_t rows, columns, wide, unit, stride, dilation; } Plane; /* `wide`: columns with the padding */

/* depthwise weights (channel, tap) -> (chunk, tap); reversed if `flip` */
static inline void load_depthwise(const Shape *s, const REAL *w, int64_t e, int flip, vec *to) {
    int64_t taps = s->kernel * s->kernel;
    for (int64_t k = 0; k < chunks_of(s); k++)
        for (int64_t t = 0; t < taps; t++) {
            vec x = {0};
            for (int64_t l = 0; l < lanes_of(s, k); l++)
                x[l] = w[(e * s->channels + k * V + l) * taps + (flip ? taps - 1 - t : t)];
            to[k * taps + t] = x;
        }
}

/* Add the pixel `at` to those of `many` sums that it reaches by a tap of one row. */
#define PIXEL(p) if (p < many + size - 1) { \
        vec here = *at; \
        KEEP(here); \
        FOR(j, size) if (p >= j && p - j < many) a[p - j] += kept[j] * here; \
        at += step; \
    }

/* `many` (8 or 4) results of a row at stride 1, `dilation` pixels apart: a pixel is read once for all taps of a row.
   Written out, since compilers keep sums in registers only if all their indices are constants; the rows of taps remain
   a loop, since unrolled they need more addresses than there are registers. */
INLINE void slide(const int many, const int size, const int add, Plane of, const vec *x, const vec *w, vec *out) {
    int64_t step = of.dilation * of.unit;
    vec a[8] = {{0}}, kept[5];
    _Pragma("GCC unroll 1") for (int i = 0; i < size; i++, x += of.wide * step, w += size) {
        const vec *at = x;
        FOR(j, size) { kept[j] = w[j]; KEEP(kept[j]); }
        PIXEL(0) PIXEL(1) PIXEL(2) PIXEL(3) PIXEL(4) PIXEL(5) PIXEL(6) PIXEL(7) PIXEL(8) PIXEL(9) PIXEL(10) PIXEL(11)
    }
    if (add) FOR(q, many) a[q] += out[q * step];
    FOR(q, many) out[q * step] = a[q];
}

/* `many` (4 or 1) adjacent results at any stride */
INLINE void taps_of(const int many, const int size, const int add, Plane of, const vec *x, const vec *w, vec *out) {
    vec a[4];
    FOR(q, many) a[q] = (vec){0};
    FOR(i, size) FOR(j, size) {
        const vec *from = x + (i * of.wide + j) * of.dilation * of.unit, weight = w[i * size + j];
        FOR(q, many) a[q] += weight * from[q * of.stride * of.unit];
    }
    if (add) FOR(q, many) a[q] += out[q * of.unit];
    FOR(q, many) out[q * of.unit] = a[q];
}

INLINE void depthwise_of(const int size, const int add, Plane of, const vec *padded, const vec *w, vec *out) {
    int64_t unit = of.unit, d = of.dilation, slides = of.stride == 1 ? of.columns : 0;
    for (int64_t r = 0; r < of.rows; r++, padded += of.stride * of.wide * unit, out += of.columns * unit) {
        int64_t c = 0, p;
        for (; c + 8 * d <= slides; c += 8 * d)
            for (p = c; p < c + d; p++) slide(8, size, add, of, padded + p * unit, w, out + p * unit);
        for (; c + 4 * d <= slides; c += 4 * d)
            for (p = c; p < c + d; p++) slide(4, size, add, of, padded + p * unit, w, out + p * unit);
        for (; c + 4 <= of.columns; c += 4)
            taps_of(4, size, add, of, padded + c * of.stride * unit, w, out + c * unit);
        for (; c < of.columns; c++) taps_of(1, size, add, of, padded + c * of.stride * unit, w, out + c * unit);
    }
}

/* out (rows, columns) = or += sum over taps of w times the shifted padded image */
static inline void depthwise(int64_t kernel, Plane of, const vec *padded, const vec *w, vec *out, int add) {
    if (kernel == 3 && add) depthwise_of(3, 1, of, padded, w, out);
    else if (kernel == 3) depthwise_of(3, 0, of, padded, w, out);
    else if (add) depthwise_of(5, 1, of, padded, w, out);
    else depthwise_of(5, 0, of, padded, w, out);
}

/* Weight gradient: sums[tap] += sum over pixels of g times the shifted padded image, for some rows of taps; g, the
   gradient in the result, has the layout of the image: its pixels are `stride` pixels apart. */
INLINE void correlate_of(const int first, const int last, const int size, Plane of, const vec *padded, const vec *g,
                         vec *sums) {
    vec a[5][5];
    FOR(i, last - first) FOR(j, size) a[i][j] = (vec){0};
    padded += first * of.wide * of.dilation * of.unit;
    for (int64_t r = 0; r < of.rows; r++)
        for (int64_t c = 0; c < of.columns; c++) {
            int64_t at = (r * of.wide + c) * of.stride * of.unit;
            const vec *x = padded + at, here = g[at];
            FOR(i, last - first) FOR(j, size) a[i][j] += here * x[(i * of.wide + j) * of.dilation * of.unit];
        }
    FOR(i, last - first) FOR(j, size) sums[(first + i) * size + j] += a[i][j];
}

static inline void correlate(int64_t kernel, Plane of, const vec *padded, const vec *g, vec *sums) {
    if (kernel == 3) correlate_of(0, 3, 3, of, padded, g, sums);
    else if (WIDE) correlate_of(0, 5, 5, of, padded, g, sums);
    else { /* as many sums as there are registers */
        correlate_of(0, 2, 5, of, padded, g, sums);
        correlate_of(2, 4, 5, of, padded, g, sums);
        correlate_of(4, 5, 5, of, padded, g, sums);
    }
}

/* Depthwise convolution of one tile, also used for the gradient in the input, and the gradient in the weights. */

#include "lanes.h"

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

/* out (rows, columns) = sum over taps of w times the shifted padded image, `wide` values per row */
INLINE void depthwise_of(const int size, const vec *padded, int64_t wide, const vec *w, int64_t rows, int64_t columns,
                         int64_t stride, int64_t dilation, vec *out) {
    for (int64_t r = 0; r < rows; r++) {
        int64_t c = 0;
        for (; c + 4 <= columns; c += 4) {
            vec a[4];
            for (int q = 0; q < 4; q++) a[q] = (vec){0};
            const vec *corner = padded + r * stride * wide + c * stride;
            for (int i = 0; i < size; i++)
                for (int j = 0; j < size; j++) {
                    const vec *x = corner + i * dilation * wide + j * dilation, weight = w[i * size + j];
                    for (int q = 0; q < 4; q++) a[q] += weight * x[q * stride];
                }
            for (int q = 0; q < 4; q++) out[r * columns + c + q] = a[q];
        }
        for (; c < columns; c++) {
            vec a = {0};
            for (int i = 0; i < size; i++)
                for (int j = 0; j < size; j++)
                    a += w[i * size + j] * padded[(r * stride + i * dilation) * wide + c * stride + j * dilation];
            out[r * columns + c] = a;
        }
    }
}

static inline void depthwise(int64_t kernel, const vec *padded, int64_t wide, const vec *w, int64_t rows,
                             int64_t columns, int64_t stride, int64_t dilation, vec *out) {
    if (kernel == 3) depthwise_of(3, padded, wide, w, rows, columns, stride, dilation, out);
    else depthwise_of(5, padded, wide, w, rows, columns, stride, dilation, out);
}

/* weight gradient: sums[tap] += sum over pixels of g times the shifted padded image; both have `wide` values per row,
   and the pixels of g, the gradient in the result, are `stride` apart. */
INLINE void correlate_of(const int size, const vec *padded, const vec *g, int64_t wide, int64_t rows, int64_t columns,
                         int64_t stride, int64_t dilation, vec *sums) {
    vec a[25];
    for (int t = 0; t < size * size; t++) a[t] = (vec){0};
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) {
            int64_t at = (r * wide + c) * stride;
            for (int i = 0; i < size; i++)
                for (int j = 0; j < size; j++) a[i * size + j] += g[at] * padded[at + (i * wide + j) * dilation];
        }
    for (int t = 0; t < size * size; t++) sums[t] += a[t];
}

static inline void correlate(int64_t kernel, const vec *padded, const vec *g, int64_t wide, int64_t rows,
                             int64_t columns, int64_t stride, int64_t dilation, vec *sums) {
    if (kernel == 3) correlate_of(3, padded, g, wide, rows, columns, stride, dilation, sums);
    else correlate_of(5, padded, g, wide, rows, columns, stride, dilation, sums);
}

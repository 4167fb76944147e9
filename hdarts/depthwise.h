/* The three depthwise convolutions of one tile: forward, and the gradients in the weights and in the input. */

#include "vectors.h"

/* depthwise weights (channel, tap) -> (chunk, tap); backwards if `flip` */
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

/* out (rows, columns) = sum over taps of w times the shifted padded image, `wide` values a row */
INLINE void depthwise_of(const int size, const vec *padded, int64_t wide, const vec *w, int64_t rows, int64_t columns,
                         int64_t stride, int64_t dilation, vec *out) {
    for (int64_t r = 0; r < rows; r++) {
        int64_t c = 0;
        for (; c + 4 <= columns; c += 4) {
            vec a[4] = {{0}};
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

static inline void depthwise(int64_t kernel, const vec *padded, int64_t wide, const vec *w, int64_t rows, int64_t columns,
                      int64_t stride, int64_t dilation, vec *out) {
    if (kernel == 3) depthwise_of(3, padded, wide, w, rows, columns, stride, dilation, out);
    else depthwise_of(5, padded, wide, w, rows, columns, stride, dilation, out);
}

/* weight gradient: sums[tap] += sum over pixels of g times the shifted padded image */
INLINE void correlate_of(const int size, const vec *padded, int64_t wide, const vec *g, int64_t rows, int64_t columns,
                         int64_t stride, int64_t dilation, vec *sums) {
    vec a[25] = {{0}};
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) {
            vec here = g[r * columns + c];
            const vec *corner = padded + r * stride * wide + c * stride;
            for (int i = 0; i < size; i++)
                for (int j = 0; j < size; j++) a[i * size + j] += here * corner[i * dilation * wide + j * dilation];
        }
    for (int t = 0; t < size * size; t++) sums[t] += a[t];
}

static inline void correlate(int64_t kernel, const vec *padded, int64_t wide, const vec *g, int64_t rows, int64_t columns,
                      int64_t stride, int64_t dilation, vec *sums) {
    if (kernel == 3) correlate_of(3, padded, wide, g, rows, columns, stride, dilation, sums);
    else correlate_of(5, padded, wide, g, rows, columns, stride, dilation, sums);
}

/* The gradient in the depthwise convolution's input: one chunk of g (row, column) spread over the taps. */
static inline void transposed(const Shape *s, const vec *g, const vec *w, const vec *flipped, vec *room, vec *out) {
    int64_t p = padding_of(s), wide = s->width + 2 * p, high = s->height + 2 * p, rows = rows_out(s),
            columns = columns_out(s);
    memset(room, 0, wide * high * sizeof *room);
    if (s->stride == 1) {
        for (int64_t r = 0; r < rows; r++) memcpy(room + (r + p) * wide + p, g + r * columns, columns * sizeof *g);
        depthwise(s->kernel, room, wide, flipped, rows, columns, 1, s->dilation, out);
        return;
    }
    for (int64_t i = 0; i < s->kernel; i++)
        for (int64_t j = 0; j < s->kernel; j++)
            for (int64_t r = 0; r < rows; r++) {
                vec weight = w[i * s->kernel + j], *to = room + (r * s->stride + i * s->dilation) * wide + j * s->dilation;
                for (int64_t c = 0; c < columns; c++) to[c * s->stride] += weight * g[r * columns + c];
            }
    for (int64_t r = 0; r < s->height; r++) memcpy(out + r * s->width, room + (r + p) * wide + p, s->width * sizeof *g);
}

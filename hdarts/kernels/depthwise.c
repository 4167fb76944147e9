/* Depthwise convolution of channels-last images, and the two maps that its derivatives are made of.

   Each is bilinear: convolve (x, w) -> out, transpose (g, w) -> gradient in x, correlate (x, g) -> gradient in w.
   Written for hdarts/depthwise.py. x (image, row, column, channel), g and out likewise at the size after the stride;
   w (channel, tap). They return 0, or 1 where there was no memory. */

#include "depthwise.h"

/* One chunk of an image `from` (row, column, channel); in `to`, `wide` values a row, its pixels are `step` apart. */
static void take(const Shape *s, const REAL *from, int64_t k, int64_t rows, int64_t columns, int64_t wide,
                 int64_t step, vec *to) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            to[(r * wide + c) * step] = gather(from + (r * columns + c) * s->channels + k * V, lanes_of(s, k));
}

static void give(const Shape *s, const vec *from, int64_t k, int64_t pixels, REAL *to) {
    for (int64_t p = 0; p < pixels; p++) put(from[p], to + p * s->channels + k * V, lanes_of(s, k));
}

int convolve(const Shape *s, const REAL *x, const REAL *w, REAL *out) {
    int64_t chunks = chunks_of(s), taps = s->kernel * s->kernel, p = padding_of(s), pixels = pixels_out(s);
    int64_t wide = s->width + 2 * p, high = s->height + 2 * p, area = s->height * s->width;
    int failed = 0;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *weights = scratch(chunks * taps + wide * high + pixels);
        if (!weights) { failed = 1; continue; }
        vec *padded = weights + chunks * taps, *made = padded + wide * high;
        memset(padded, 0, wide * high * sizeof *padded);
        load_depthwise(s, w, 0, 0, weights);
        for (IMAGES_OF(t))
            for (int64_t k = 0; k < chunks; k++) {
                take(s, x + n * area * s->channels, k, s->height, s->width, wide, 1, padded + p * wide + p);
                depthwise(s->kernel, padded, wide, weights + k * taps, rows_out(s), columns_out(s), s->stride,
                          s->dilation, made);
                give(s, made, k, pixels, out + n * pixels * s->channels);
            }
    }
    return failed;
}

int transpose(const Shape *s, const REAL *g, const REAL *w, REAL *out) {
    int64_t chunks = chunks_of(s), taps = s->kernel * s->kernel, p = padding_of(s), pixels = pixels_out(s);
    int64_t wide = s->width + 2 * p, high = s->height + 2 * p, area = s->height * s->width;
    int failed = 0;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *flipped = scratch(chunks * taps + wide * high + area);
        if (!flipped) { failed = 1; continue; }
        vec *spread = flipped + chunks * taps, *made = spread + wide * high;
        memset(spread, 0, wide * high * sizeof *spread);
        load_depthwise(s, w, 0, 1, flipped);
        for (IMAGES_OF(t))
            for (int64_t k = 0; k < chunks; k++) {
                take(s, g + n * pixels * s->channels, k, rows_out(s), columns_out(s), wide, s->stride,
                     spread + p * wide + p);
                depthwise(s->kernel, spread, wide, flipped + k * taps, s->height, s->width, 1, s->dilation, made);
                give(s, made, k, area, out + n * area * s->channels);
            }
    }
    return failed;
}

int correlation(const Shape *s, const REAL *x, const REAL *g, REAL *out) {
    int64_t chunks = chunks_of(s), taps = s->kernel * s->kernel, p = padding_of(s), pixels = pixels_out(s);
    int64_t wide = s->width + 2 * p, high = s->height + 2 * p, area = s->height * s->width;
    int failed = 0;
    vec *parts = calloc(s->threads * chunks * taps, sizeof *parts);
    if (!parts) return 1;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *padded = scratch(2 * wide * high);
        if (!padded) { failed = 1; continue; }
        vec *spread = padded + wide * high;
        memset(padded, 0, wide * high * sizeof *padded);
        for (IMAGES_OF(t))
            for (int64_t k = 0; k < chunks; k++) {
                take(s, x + n * area * s->channels, k, s->height, s->width, wide, 1, padded + p * wide + p);
                take(s, g + n * pixels * s->channels, k, rows_out(s), columns_out(s), wide, s->stride, spread);
                correlate(s->kernel, padded, spread, wide, rows_out(s), columns_out(s), s->stride, s->dilation,
                          parts + (t * chunks + k) * taps);
            }
    }
    for (int64_t channel = 0; channel < s->channels; channel++)
        for (int64_t i = 0; i < taps; i++) {
            REAL sum = 0;
            for (int64_t t = 0; t < s->threads; t++) sum += parts[(t * chunks + channel / V) * taps + i][channel % V];
            out[channel * taps + i] = sum;
        }
    free(parts);
    return failed;
}
